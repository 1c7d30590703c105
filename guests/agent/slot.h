/* The slots of the machine's virtio bus, whose devices come and go while it runs. All return 0, or -1 with
 * errno. */
#ifndef TSVMM_AGENT_SLOT_H
#define TSVMM_AGENT_SLOT_H

/*
 * Waits until there is a device at the slot with this address, in hexadecimal, and lets the driver have it.
 * Linux keeps the platform device of an emptied slot and does not look at it again by itself.
 */
int slot_bind(const char *address);
/*
 * Takes the driver off the device at the slot with this address. Waits before until no file system uses its
 * disks, so that all that was written has reached them.
 */
int slot_unbind(const char *address);

#endif
