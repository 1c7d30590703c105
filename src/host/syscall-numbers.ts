/*
 * The numbers of the system calls that host/file-calls.ts makes, on x86-64, and the flags that they take. Names and
 * values as in <sys/syscall.h>, <fcntl.h>, <linux/openat2.h> and <sys/stat.h>; test/abi.test.ts compares them.
 */
export const SYS_lseek = 8;
export const SYS_fsync = 74;
export const SYS_fdatasync = 75;
export const SYS_truncate = 76;
export const SYS_ftruncate = 77;
export const SYS_fstatfs = 138;
export const SYS_setxattr = 188;
export const SYS_getxattr = 191;
export const SYS_listxattr = 194;
export const SYS_removexattr = 197;
export const SYS_getdents64 = 217;
export const SYS_openat = 257;
export const SYS_mkdirat = 258;
export const SYS_mknodat = 259;
export const SYS_fchownat = 260;
export const SYS_unlinkat = 263;
export const SYS_linkat = 265;
export const SYS_symlinkat = 266;
export const SYS_readlinkat = 267;
export const SYS_fchmodat = 268;
export const SYS_utimensat = 280;
export const SYS_fallocate = 285;
export const SYS_syncfs = 306;
export const SYS_renameat2 = 316;
export const SYS_copy_file_range = 326;
export const SYS_statx = 332;
export const SYS_close = 3;
export const SYS_openat2 = 437;

export const AT_EMPTY_PATH = 0x1000;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_REMOVEDIR = 0x200;
export const O_ACCMODE = 3;
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_DSYNC = 0o10000;
export const O_DIRECTORY = 0o200000;
export const O_NOFOLLOW = 0o400000;
export const O_CLOEXEC = 0o2000000;
export const O_SYNC = 0o4010000;
export const O_PATH = 0o10000000;
export const O_TMPFILE = 0o20200000;
export const RESOLVE_NO_MAGICLINKS = 2;
export const RESOLVE_NO_SYMLINKS = 4;
export const RESOLVE_BENEATH = 8;
export const RESOLVE_CACHED = 0x20;
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;
