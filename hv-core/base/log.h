/* log.h: the log of our own processes. To stderr with a level prefix that journald reads (sd-daemon(3)); croft-front
 * sets a sink that sends each line through the door. A line never blocks: stderr is asked with poll first and lines
 * that cannot be written are counted. */
#pragma once
enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_NOTE = 5, LOG_INFO = 6, LOG_DEBUG = 7 };
void log_open(const char *program, enum log_level max, void (*sink)(enum log_level, const char *line));
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...)	log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)	log_line(LOG_WARN, __VA_ARGS__)
#define log_note(...)	log_line(LOG_NOTE, __VA_ARGS__)
#define log_info(...)	log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)	log_line(LOG_DEBUG, __VA_ARGS__)
