#include "kvm.h"
#include <sys/utsname.h>
#include <unistd.h>
#include "mem.h"

#ifdef __aarch64__
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define DEADLINE_MS 4000	/* milliseconds on real hardware, a second under emulation */

/* What the child writes into the pipe, once. */
struct finding {
	int32_t no;
	char step[48];
	uint32_t gic, ipa_bits, max_vcpus, target;
	bool ran, gicv2, sve, pmu, aarch32, pointer_auth, mte;
};

enum { GUEST_RAM = 0x40000000, GUEST_UART = 0x09000000, GUEST_BYTE = 42, RAM_BYTES = 65536 };

static int stop(struct finding *f, const char *step)
{
	f->no = errno;
	strncpy(f->step, step, sizeof(f->step) - 1);
	return -1;
}

static bool has_device(int vm, unsigned type)
{
	struct kvm_create_device d = { .type = type, .flags = KVM_CREATE_DEVICE_TEST };

	return ioctl(vm, KVM_CREATE_DEVICE, &d) == 0;
}

static bool has(int kvm, int extension)
{
	return ioctl(kvm, KVM_CHECK_EXTENSION, extension) > 0;
}

static int ask(int kvm, struct finding *f)
{
	int bits = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_VM_IPA_SIZE), vm;

	f->ipa_bits = bits > 0 ? bits : 40;
	f->sve = has(kvm, KVM_CAP_ARM_SVE);
	f->pmu = has(kvm, KVM_CAP_ARM_PMU_V3);
	f->aarch32 = has(kvm, KVM_CAP_ARM_EL1_32BIT);
	f->pointer_auth = has(kvm, KVM_CAP_ARM_PTRAUTH_ADDRESS) && has(kvm, KVM_CAP_ARM_PTRAUTH_GENERIC);
	f->mte = has(kvm, KVM_CAP_ARM_MTE);
	vm = ioctl(kvm, KVM_CREATE_VM, bits > 0 ? KVM_VM_TYPE_ARM_IPA_SIZE(bits) : 0);
	if (vm < 0)
		return stop(f, "making a VM");
	f->gicv2 = has_device(vm, KVM_DEV_TYPE_ARM_VGIC_V2);
	f->gic = has_device(vm, KVM_DEV_TYPE_ARM_VGIC_V3) ? 3 : f->gicv2 ? 2 : 0;
	bits = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	f->max_vcpus = bits > 0 ? bits : 0;
	if (f->gic == 2 && f->max_vcpus > 8)
		f->max_vcpus = 8;
	return vm;
}

static int make_memory(int vm, struct finding *f)
{
	static const uint32_t program[] = {
		0xd2a12000,	/* mov x0, #0x09000000 */
		0x52800541,	/* mov w1, #42 */
		0xb9000001,	/* str w1, [x0]: leaves the guest */
		0x14000000,	/* b . */
	};
	struct kvm_userspace_memory_region region = { .guest_phys_addr = GUEST_RAM, .memory_size = RAM_BYTES };
	void *ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (ram == MAP_FAILED)
		return stop(f, "making memory");
	memcpy(ram, program, sizeof(program));
	region.userspace_addr = (uintptr_t)ram;
	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? stop(f, "giving memory to the VM") : 0;
}

static int run_guest(int kvm, int vm, struct finding *f)
{
	struct kvm_vcpu_init init = { 0 };
	uint64_t pc = GUEST_RAM;
	struct kvm_one_reg reg = { .addr = (uintptr_t)&pc, .id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
							       KVM_REG_ARM_CORE_REG(regs.pc) };
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0), size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), r;
	struct kvm_run *run;

	if (vcpu < 0 || size < (int)sizeof(*run))
		return stop(f, "making a virtual CPU");
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		return stop(f, "mapping the virtual CPU");
	if (ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init) < 0 || ioctl(vcpu, KVM_ARM_VCPU_INIT, &init) < 0)
		return stop(f, "initialising the virtual CPU");
	f->target = init.target;
	if (ioctl(vcpu, KVM_SET_ONE_REG, &reg) < 0)
		return stop(f, "setting its registers");
	do
		r = ioctl(vcpu, KVM_RUN, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return stop(f, "running it");
	f->ran = run->exit_reason == KVM_EXIT_MMIO && run->mmio.phys_addr == GUEST_UART && run->mmio.is_write &&
		 run->mmio.data[0] == GUEST_BYTE;
	errno = 0;
	return f->ran ? 0 : stop(f, "running four instructions");
}

/* Where the cores are of several kinds, a virtual CPU must run on the kind that it was initialised on. */
static void stay_here(void)
{
	unsigned cpu;
	cpu_set_t one;

	if (getcpu(&cpu, NULL) < 0 || cpu >= CPU_SETSIZE)
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* In the child: only system calls, since it was forked from a program with threads. */
static void probe_child(int out)
{
	struct finding f = { 0 };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;

	stay_here();
	if (kvm < 0)
		stop(&f, "opening /dev/kvm");
	else if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		stop(&f, "asking for KVM's version");
	else if ((vm = ask(kvm, &f)) >= 0 && make_memory(vm, &f) == 0)
		run_guest(kvm, vm, &f);
	_exit(write(out, &f, sizeof(f)) == sizeof(f) ? 0 : 1);
}

/* True when the child has answered in time. */
static bool run_child(struct finding *ret)
{
	int fds[2];
	bool answered = false;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return false;
	pid = fork();
	if (!pid)
		probe_child(fds[1]);
	close(fds[1]);
	if (pid > 0) {
		struct pollfd p = { .fd = fds[0], .events = POLLIN };
		int r;

		while ((r = poll(&p, 1, DEADLINE_MS)) < 0 && errno == EINTR)
			;
		answered = r == 1 && read(fds[0], ret, sizeof(*ret)) == sizeof(*ret);
		kill(pid, SIGKILL);
		/* A child that hangs inside the kernel can't be waited for; it becomes a zombie that nobody misses. */
		for (int i = 0; i < 20 && waitpid(pid, NULL, WNOHANG) == 0; i++)
			usleep(5000);
	}
	close(fds[0]);
	return answered;
}

/* QEMU's "host" and "max" are whatever the CPU is. A named model is taken only where KVM has a target of its own for
 * it and the CPU is that one; all newer CPUs are "generic", and go by no name. */
static void put_models(struct host_kvm *k, uint32_t target)
{
	static const struct { uint32_t target; const char *name; } named[] = {
		{ KVM_ARM_TARGET_CORTEX_A53, "cortex-a53" }, { KVM_ARM_TARGET_CORTEX_A57, "cortex-a57" },
	};

	*(char **)field_vec_add(&k->cpu_models, sizeof(char *)) = xstrdup("host");
	*(char **)field_vec_add(&k->cpu_models, sizeof(char *)) = xstrdup("max");
	for (size_t i = 0; i < COUNT(named); i++)
		if (named[i].target == target)
			*(char **)field_vec_add(&k->cpu_models, sizeof(char *)) = xstrdup(named[i].name);
}

void kvm_probe(struct host_kvm *ret)
{
	struct finding f = { 0 };

	if (access("/dev/kvm", F_OK) < 0) {
		ret->reason = xstrdup("there is no /dev/kvm: the kernel has no KVM, or was not started in EL2");
		return;
	}
	if (!run_child(&f)) {
		ret->reason = xasprintf("/dev/kvm is there, but a virtual CPU did not run four instructions in %d ms",
					DEADLINE_MS);
		return;
	}
	ret->gic = f.gic;
	ret->gicv2 = f.gicv2;
	ret->ipa_bits = f.ipa_bits;
	ret->max_vcpus = f.max_vcpus;
	ret->sve = f.sve;
	ret->pmu = f.pmu;
	ret->aarch32 = f.aarch32;
	ret->pointer_auth = f.pointer_auth;
	ret->mte = f.mte;
	ret->usable = f.ran && f.gic;
	if (ret->usable)
		put_models(ret, f.target);
	if (ret->usable)
		ret->reason = xstrdup("a virtual CPU has run in a probe");
	else if (f.ran)
		ret->reason = xstrdup("KVM runs, but without an interrupt controller for guests (no GICv2 or GICv3)");
	else
		ret->reason = xasprintf("/dev/kvm is there, but %s failed%s%s", f.step, f.no ? ": " : "",
					f.no ? strerror(f.no) : "");
}
#else
void kvm_probe(struct host_kvm *ret)
{
	struct utsname u;

	ret->reason = xasprintf("this host is %s; aarch64 guests run by emulation%s",
				uname(&u) ? "no aarch64" : u.machine,
				access("/dev/kvm", F_OK) ? "" : " (its /dev/kvm runs only guests of its own kind)");
}
#endif
