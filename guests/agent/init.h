/* The agent as init of a microVM. */
#ifndef TSVMM_AGENT_INIT_H
#define TSVMM_AGENT_INIT_H

/* Mounts the kernel's file systems and loads the modules that the initramfs lists. */
void init_prepare(void);

#endif
