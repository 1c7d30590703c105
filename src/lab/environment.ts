/*
 * The environment of programs in the lab.
 */
/** Variables that mean nothing in the lab, or that make programs slow to start there. */
const DROPPED =
	/^(?:XDG_RUNTIME_DIR|DBUS_.*|SSH_.*|DISPLAY|WAYLAND_DISPLAY|LD_PRELOAD|NODE_EXTRA_CA_CERTS|NODE_CHANNEL_.*|NODE_V8_COVERAGE|OLDPWD|_|TSVMM_LAB.*|TSVMM_HOST|TSVMM_RUNTIME)$/;

/** The environment of a program in the lab, from one of the host. */
export function labEnvironment(host: NodeJS.ProcessEnv): Record<string, string> {
	const env: Record<string, string> = {};
	for (const [key, value] of Object.entries(host)) {
		if (value !== undefined && !DROPPED.test(key)) env[key] = value;
	}
	return { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...env, ...IN_LAB };
}

/** TSVMM_HOST: the lab is a KVM host, no further lab in it. Unix sockets cannot live on 9p, hence /run. */
const IN_LAB = { TSVMM_HOST: "direct", TSVMM_LAB: "1", TSVMM_RUNTIME: "/run/tsvmm" };
