/* list.h: intrusive doubly linked list. A head is a struct list that points to itself when empty. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list { struct list *prev, *next; };

static inline void list_init(struct list *l) { l->prev = l->next = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_insert(struct list *after, struct list *n)
{
	n->prev = after;
	n->next = after->next;
	after->next->prev = n;
	after->next = n;
}
static inline void list_append(struct list *head, struct list *n) { list_insert(head->prev, n); }
/* Safe to call twice, and on a zeroed node. */
static inline void list_remove(struct list *n)
{
	if (!n->next)
		return;
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->prev = n->next = NULL;
}
#define LIST_ENTRY(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
/* @next_ lets the body remove the entry it stands on. */
#define LIST_FOR(it, head, type, member) \
	for (struct list *it##_l = (head)->next, *it##_n = it##_l->next; it##_l != (head); it##_l = it##_n, it##_n = it##_l->next) \
		for (type *it = LIST_ENTRY(it##_l, type, member); it; it = NULL)
