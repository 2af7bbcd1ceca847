/* SPDX-License-Identifier: Apache-2.0 */
/* A doubly linked list whose links are embedded in what it lists. It owns nothing. A link that is in no
 * list points to itself, so that list_remove() may be called twice. */
#ifndef HOLDFAST_LIST_H
#define HOLDFAST_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "check.h"

struct list { struct list *next, *prev; };

static inline void list_init(struct list *list) { list->next = list->prev = list; }
static inline bool list_empty(const struct list *list) { return list->next == list; }

static inline void list_append(struct list *list, struct list *link)
{
	link->prev = list->prev;
	link->next = list;
	list->prev->next = link;
	list->prev = link;
}

static inline void list_remove(struct list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	list_init(link);
}

/* The first link, or NULL when the list is empty. */
static inline struct list *list_first(const struct list *list)
{
	return list_empty(list) ? NULL : list->next;
}

#define list_entry(link, type, member) container_of(link, type, member)

#endif
