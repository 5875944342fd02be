/* vm_states.c: the lifecycle as one table, state x event -> next state. There are no flags beside it. */
#include "vm.h"

const char *const vm_state_names[] = {
#define X(id, name, alive, help) name,
	VM_STATES(X)
#undef X
	NULL
};

static const struct { bool alive; const char *help; } states[VM_NSTATES] = {
#define X(id, name, is_alive, text) [VM_##id] = { is_alive, text },
	VM_STATES(X)
#undef X
};

static const struct { const char *name; bool asked; } events[VM_NEVENTS] = {
#define X(id, text, is_asked) [VM_##id] = { text, is_asked },
	VM_EVENTS(X)
#undef X
};

/* What is asked takes effect when QEMU says that it did (SAW_...); only start, attach, poweroff and discard change the
 * state at once. What is seen too late for a state changes nothing. A guest that was told to shut down, fell silent and
 * came back is simply running: whether it still means to shut down, nobody knows. */
enum { NO = VM_NSTATES };
#define ROW(start, attach, shutdown, reset, pause, resume, screen, change, suspend, discard, poweroff, runs, paused, \
	    told, ignored, was_reset, saving, saved, silence, lost, guest_end, end) { \
	[VM_ASK_START] = start, [VM_ASK_ATTACH] = attach, [VM_ASK_SHUTDOWN] = shutdown, [VM_ASK_RESET] = reset, \
	[VM_ASK_PAUSE] = pause, [VM_ASK_RESUME] = resume, [VM_ASK_SCREEN] = screen, \
	[VM_ASK_CHANGE] = change, [VM_ASK_SUSPEND] = suspend, \
	[VM_ASK_DISCARD] = discard, [VM_ASK_POWEROFF] = poweroff, [VM_SAW_RUNNING] = runs, [VM_SAW_PAUSED] = paused, \
	[VM_SAW_TOLD] = told, [VM_SAW_IGNORED] = ignored, [VM_SAW_RESET] = was_reset, [VM_SAW_SAVING] = saving, \
	[VM_SAW_SAVED] = saved, [VM_SAW_SILENCE] = silence, [VM_SAW_LOST] = lost, [VM_SAW_GUEST_END] = guest_end, \
	[VM_SAW_END] = end }
#define OFF VM_OFF
#define SPD VM_SUSPENDED
#define STA VM_STARTING
#define ATT VM_ATTACHING
#define RUN VM_RUNNING
#define PAU VM_PAUSED
#define STO VM_STOPPING
#define SAV VM_SUSPENDING
#define DEG VM_DEGRADED
#define LOS VM_LOST
#define END VM_ENDING
static const uint8_t next[VM_NSTATES][VM_NEVENTS] = {
/*                     asked                                                    seen
 *                     star att. shut rese paus resu scre chan susp disc off    runs paus told igno rese savi save sile lost g.e. end */
[VM_OFF]       = ROW(  STA, ATT, NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,    OFF, OFF, OFF, OFF, OFF, OFF, SPD, OFF, OFF, OFF, OFF),
[VM_SUSPENDED] = ROW(  STA, NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  OFF, NO,    SPD, SPD, SPD, SPD, SPD, SPD, SPD, SPD, SPD, SPD, SPD),
[VM_STARTING]  = ROW(  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  END,   RUN, PAU, STA, STA, STA, STA, STA, STA, LOS, END, OFF),
[VM_ATTACHING] = ROW(  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  END,   RUN, PAU, ATT, ATT, ATT, ATT, ATT, DEG, LOS, END, OFF),
[VM_RUNNING]   = ROW(  NO,  NO,  RUN, RUN, RUN, NO,  RUN, RUN, RUN, NO,  END,   RUN, PAU, STO, RUN, RUN, SAV, RUN, DEG, LOS, END, OFF),
[VM_PAUSED]    = ROW(  NO,  NO,  NO,  PAU, NO,  PAU, PAU, PAU, PAU, NO,  END,   RUN, PAU, PAU, PAU, PAU, SAV, PAU, DEG, LOS, END, OFF),
[VM_STOPPING]  = ROW(  NO,  NO,  STO, STO, STO, NO,  STO, STO, NO,  NO,  END,   STO, PAU, STO, RUN, RUN, SAV, STO, DEG, LOS, END, OFF),
[VM_SUSPENDING]= ROW(  NO,  NO,  NO,  NO,  NO,  SAV, NO,  NO,  NO,  NO,  END,   RUN, PAU, SAV, SAV, SAV, SAV, SAV, DEG, LOS, END, OFF),
[VM_DEGRADED]  = ROW(  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  END,   RUN, PAU, DEG, DEG, DEG, DEG, DEG, DEG, LOS, END, OFF),
[VM_LOST]      = ROW(  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,    RUN, PAU, LOS, LOS, LOS, LOS, LOS, DEG, LOS, END, OFF),
[VM_ENDING]    = ROW(  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  END,   END, END, END, END, END, END, END, END, END, END, OFF),
};

enum vm_state vm_state_next(enum vm_state s, enum vm_event ev)
{
	return next[s][ev];
}

const char *vm_event_name(enum vm_event ev)
{
	return events[ev].name;
}

bool vm_state_alive(enum vm_state s)
{
	return states[s].alive;
}

bool vm_event_asked(enum vm_event ev)
{
	return events[ev].asked;
}

void vm_states_markdown(struct buf *out)
{
	buf_adds(out, "| state |");
	for (int ev = 0; ev < VM_NEVENTS; ev++)
		buf_addf(out, " %s%s |", events[ev].asked ? "" : "*", events[ev].name);
	buf_adds(out, "\n|---|");
	for (int ev = 0; ev < VM_NEVENTS; ev++)
		buf_adds(out, "---|");
	for (int s = 0; s < VM_NSTATES; s++) {
		buf_addf(out, "\n| **%s** |", vm_state_names[s]);
		for (int ev = 0; ev < VM_NEVENTS; ev++) {
			int n = next[s][ev];

			buf_addf(out, " %s |", n == NO ? "refused" : n == s ? "" : vm_state_names[n]);
		}
	}
	buf_adds(out, "\n\n");
	for (int s = 0; s < VM_NSTATES; s++)
		buf_addf(out, "* **%s**: %s\n", vm_state_names[s], states[s].help);
	buf_adds(out, "\nColumns with a * are seen, the others asked for. An empty cell leaves the state as it is.\n");
}
