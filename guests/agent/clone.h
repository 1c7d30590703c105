/*
 * Mounts that are taken out of one root and put into another: a container's root and volumes lie in a
 * directory of the agent's own root, which the container must not see (open_tree(2), move_mount(2)).
 *
 *     clone_take "root", "/run/shares/a" ... mount_switch ... clone_put "data", "/data"
 *
 * What was taken and not put goes with the process.
 */
#ifndef TSVMM_AGENT_CLONE_H
#define TSVMM_AGENT_CLONE_H

/* Takes a copy of the mount at `path`, with those below it, under a name. @return 0; -1 with errno */
int clone_take(const char *name, const char *path);
/*
 * Mounts what was taken at `target`, which is made if missing: a directory, or an empty file for a file.
 * `options` are flags as in fstab(5), such as "ro,nosuid". @return 0; -1 with errno
 */
int clone_put(const char *name, const char *target, const char *options);

#endif
