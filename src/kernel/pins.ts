/*
 * The Debian packages of the guest kernels, pinned to a version and a hash, so that everybody boots the same bytes.
 * Those of bookworm are of the main archive's last point release, which keeps its files. A backport may be superseded.
 * Then `kernel fetch --latest` takes the newest of its line.
 */

export type Flavour = "6.1-cloud" | "6.1-amd64" | "6.12-cloud";

export interface KernelPin {
	/** The package with the kernel itself. */
	package: string;
	version: string;
	sha256: string;
	suite: string;
	/** The package that depends on the newest kernel of this line. */
	line: string;
	/** The flavour's part of a kernel's name. */
	suffix: string;
}

export const PINS: Record<Flavour, KernelPin> = {
	/** Debian 12's kernel for clouds: small, virtio first. */
	"6.1-cloud": {
		package: "linux-image-6.1.0-50-cloud-amd64",
		version: "6.1.176-1",
		sha256: "efe19f605b6f54a8352e68d85a629abb2d30b72a085faef603a9152590baa791",
		suite: "bookworm",
		line: "linux-image-cloud-amd64",
		suffix: "cloud-amd64",
	},
	/** Debian 12's general kernel, which has KVM modules. */
	"6.1-amd64": {
		package: "linux-image-6.1.0-50-amd64",
		version: "6.1.176-1",
		sha256: "7b5597492a0a65aee61985a492e6bcc3f2cde830072a0e3b3d8c7e1b90279bd3",
		suite: "bookworm",
		line: "linux-image-amd64",
		suffix: "amd64",
	},
	"6.12-cloud": {
		package: "linux-image-6.12.95+deb12-cloud-amd64",
		version: "6.12.95-1~bpo12+1",
		sha256: "69c92f43b23821de79576fa4d7c86e2924ae2c1b247a47cc5ed9339e220fbcb7",
		suite: "bookworm-backports",
		line: "linux-image-cloud-amd64",
		suffix: "cloud-amd64",
	},
};

export const FLAVOURS = Object.keys(PINS) as Flavour[];

/** The source that `kernel build` compiles. */
export const SOURCE_PIN = {
	package: "linux-source-6.1",
	version: "6.1.176-1",
	sha256: "9305d1a151b8e83dcb88aa11361e7b9513f0c252bdf7f5647e4542762d99c094",
	suite: "bookworm",
	/** The archive inside the package. */
	archive: "usr/src/linux-source-6.1.tar.xz",
} as const;
