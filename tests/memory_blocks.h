/* SPDX-License-Identifier: Apache-2.0 */
/* A struct blocks that is an array in memory, sparse, so that it may be of any size. What a commit logs is what the
 * log's record would hold, to the byte; all records are kept on demand, so that any prefix of the log can be looked
 * at. */
#ifndef HOLDFAST_TESTS_MEMORY_BLOCKS_H
#define HOLDFAST_TESTS_MEMORY_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "blocks.h"
#include "io.h"

struct memory_blocks;

/* @count blocks that read as zeros. Everything that it draws comes from @seed. */
struct memory_blocks *memory_blocks_new(uint64_t count, uint64_t seed);
void memory_blocks_free(struct memory_blocks *m);
struct blocks *memory_blocks_blocks(struct memory_blocks *m);
/* Memory from malloc, chance from a seed, no clock but 0; nothing else may be asked of it. */
struct io *memory_blocks_io(struct memory_blocks *m);

/* From now on a block that is met is not in memory once in @one_in times (0: never), and a commit finds no room as
 * often. memory_blocks_settle() is what comes before ready(): what was missed is there. */
void memory_blocks_miss(struct memory_blocks *m, unsigned one_in);
void memory_blocks_settle(struct memory_blocks *m);
/* This block cannot be read. UINT64_MAX: all can. */
void memory_blocks_fail(struct memory_blocks *m, uint64_t block);
void memory_blocks_read_only(struct memory_blocks *m, bool read_only);
/* A block as it stands, outside of transactions; NULL: zeros that nobody has written. */
uint8_t *memory_blocks_page(struct memory_blocks *m, uint64_t block);
/* The same, made when it is not there. */
uint8_t *memory_blocks_make(struct memory_blocks *m, uint64_t block);
/* The blocks that were written, in rising order; *count of them; free() it. */
uint64_t *memory_blocks_written(struct memory_blocks *m, uint64_t *count);

struct memory_blocks_figures {
	uint64_t commits, aborts;
	uint64_t logged;		/* bytes of all records */
	uint64_t logged_last;		/* of the last one: header, deltas, annotation, payload */
	uint64_t deltas_last;
	uint64_t reads;			/* blocks asked for */
};
const struct memory_blocks_figures *memory_blocks_figures(const struct memory_blocks *m);

/* Records are kept from here on; what is there now is the base. */
void memory_blocks_keep(struct memory_blocks *m);
uint64_t memory_blocks_kept(const struct memory_blocks *m);
/* The base and the first @records: a new one, of the same size. */
struct memory_blocks *memory_blocks_prefix(const struct memory_blocks *m, uint64_t records);
/* Record @record, from 0, of those that @m has kept, as a secondary applies it: to @to, which has all before it. */
void memory_blocks_apply(struct memory_blocks *to, const struct memory_blocks *m, uint64_t record);
/* Its length; *annotation is the record's. */
uint32_t memory_blocks_annotation(const struct memory_blocks *m, uint64_t record, const void **annotation);

#endif
