/* The agent as init, see init.h. */
#include "init.h"
void init_prepare(void) {}
