/*
 * Which extended attributes of the host's files a guest may see and set: the user's, those of overlays and of
 * capabilities. Labels of the host's security modules and its ACLs stay the host's: a guest without FUSE_POSIX_ACL would
 * not obey them anyway.
 */
import { ErrnoError } from "../../base/errno-error.ts";

/** The capabilities of a program. */
export const CAPABILITIES = "security.capability";

/** @throws ErrnoError EOPNOTSUPP for one that stays the host's */
export function checkXattr(name: string): void {
	if (!isShared(name)) throw ErrnoError.of("EOPNOTSUPP");
}

/** Whether a guest may see and set it. */
export function isShared(name: string): boolean {
	return name.startsWith("user.") || name.startsWith("trusted.") || name === CAPABILITIES;
}
