/* The steps of SETUP. They run in a child, so they may block. */
#ifndef TSVMM_AGENT_STEPS_H
#define TSVMM_AGENT_STEPS_H

#include "process.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Runs the steps of a list in order. This changes the list.
 *
 * @param contained true for a container's init, whose root `switch` may change
 * @return false with `failure` filled in at the first step that fails
 */
bool steps_run(char *list, size_t length, bool contained, struct failure *failure);

#endif
