/*
 * The modules of the package as files of users import them (host/user-module.ts). main.ts gives them to its commands,
 * which lie below.
 */
import type { PackageModules } from "./host/user-module.ts";

export const PACKAGE_MODULES: PackageModules = {
	tsvmm: () => import("./index.ts"),
	"tsvmm/virtio": () => import("./virtio.ts"),
	"tsvmm/kvm": () => import("./kvm.ts"),
};
