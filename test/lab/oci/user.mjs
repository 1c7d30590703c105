/*
 * In the lab: a user who is not root, with what podman needs for that: numbers of its own (subuid), a runtime directory, a
 * kernel that it may read, and /dev/kvm.
 */
import { execFileSync } from "node:child_process";
import { home, keepCache } from "./host.mjs";

export const user = "mary";

const UID = 1500;

/** @returns the variables of its environment */
export function prepareUser({ TSVMM_CACHE, ...environment }) {
	const runtime = `/run/user/${UID}`;
	const cache = `${home}/cache`;
	const script = `
		useradd --uid ${UID} --user-group --no-create-home --home-dir ${home}/mary --shell /bin/sh ${user}
		echo ${user}:200000:65536 >/etc/subuid; echo ${user}:200000:65536 >/etc/subgid
		mkdir -p ${runtime} ${home}/mary ${cache}/kernels
		cp -a ${TSVMM_CACHE ?? `${environment.HOME}/.cache/tsvmm`}/kernels/minimal-* ${cache}/kernels
		chown -R ${UID}:${UID} ${runtime} ${home}
		chmod 700 ${runtime}; chmod 711 /run; chown ${UID} /dev/kvm; chmod 666 /dev/net/tun; chmod 1777 /tmp`;
	execFileSync("/bin/sh", ["-ec", script]);
	keepCache(cache);
	return { ...environment, HOME: `${home}/mary`, XDG_RUNTIME_DIR: runtime, TSVMM_CACHE: cache, USER: user };
}
