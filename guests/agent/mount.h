/* Directories, mounts, and the change to a container's root. All return 0, or -1 with errno.
 */
#ifndef TSVMM_AGENT_MOUNT_H
#define TSVMM_AGENT_MOUNT_H

#include <stddef.h>

/* mkdir -p. */
int make_directories(const char *path, unsigned mode);
/*
 * Mounts `source` at `target`, which is made if missing. `options` are as in fstab(5): flags by name, and the
 * file system's own. A source "id:NAME" is the virtio disk with that serial number. A tmpfs without mode=
 * gets that of the directory it covers. With "tmpcopyup" it begins with what is in that.
 */
int mount_at(const char *type, const char *source, const char *target, const char *options);
/* Finds the virtio disk with a serial number, which may take its driver a moment: "vda". */
int disk_name(const char *id, char *name, size_t size);
/* Sets the flags of a mount that is there: "ro,nosuid". Flags that it has stay. */
int mount_restrict(const char *path, const char *options);
/* Hides the file or directory at `path`, if there is one: behind /dev/null, or behind an empty directory. */
int mount_mask(const char *path);
/* Makes the file or directory at `path` read-only, if there is one. */
int mount_read_only(const char *path);
/* Makes the mount at `path` the root, and removes the mounts below the old root. */
int mount_switch(const char *path);

#endif
