/*
 * podman's command lines of a user who is not root: its containers are root's in a user namespace of podman's.
 */
import type { Row } from "../table.ts";

const ONCE = "podman run --rm --network none --rootfs $ROOT";

export const ROOTLESS: readonly Row[] = [
	{ line: `${ONCE} sh -c 'id; echo err >&2; exit 3'` },
	{
		line: "podman run --rm --network none -v $DIR/ro:/ro:ro -v $DIR/rw:/rw --rootfs $ROOT sh -c 'ls -ln /rw /ro | cut -c1-40; echo new >/rw/new; touch /ro/x; chown 5:5 /rw/new; stat -c \"%u %g\" /rw/new'; ls -ln $DIR/rw | cut -c1-30; podman unshare rm $DIR/rw/new",
	},
	{
		line: `podman run --rm --network none --user 1500:1600 --rootfs $ROOT sh -c 'id; touch /tmp/x'; podman run --rm -t --network none --userns keep-id --rootfs $ROOT sh -c 'id; tty'`,
	},
	{ line: `${ONCE} nosuch` },
	{ line: `${ONCE} /etc` },
	{
		line: `podman run --rm --cap-add net_raw --rootfs $ROOT sh -c 'ip -4 -o addr | wc -l; ip route | grep -c default; grep -c nameserver /etc/resolv.conf; ping -c 1 -W 20 10.0.2.2 | grep received'`,
	},
	{
		line: `podman run -d --name c --network none --rootfs $ROOT sh -c 'trap "echo bye; exit 5" TERM; echo up; while :; do sleep 0.5; done' | wc -c`,
	},
	{ line: "podman ps --format '{{.Names}}'; podman exec c sh -c 'id; exit 7'" },
	{
		line: "podman exec --user 1000 c id; podman cp $DIR/input c:/copied; podman exec c sh -c 'wc -c /copied; stat -c \"%u %g\" /copied'",
	},
	{ line: "podman logs c; podman stop -t 60 c; podman logs c; podman inspect -f '{{.State.ExitCode}}' c" },
	{ line: "podman rm c; podman ps -aq | wc -l" },
	/* /dev/kvm is the user's, who takes the right to use it away. runc has no such need. */
	{
		line: `chmod 0 /dev/kvm; ${ONCE} true; echo $?; chmod 600 /dev/kvm; podman ps -aq | wc -l`,
		prints: "126\n0\n",
		stderr: /Cannot open \/dev\/kvm: permission denied/,
	},
];
