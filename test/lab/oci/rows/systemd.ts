/*
 * podman's command lines on a host with systemd, which counts what containers use. $ROOT is a root file system with
 * busybox, $BUNDLE a bundle.
 */
import type { Row } from "../table.ts";

const UNIT = `libpod-$(podman inspect -f '{{.Id}}' s).scope`;

export const SYSTEMD: readonly Row[] = [
	{
		line: `podman run -d --name s --network none --memory 300m --rootfs $ROOT sh -c 'trap "exit 5" TERM; while :; do sleep 0.2; done' | wc -c; unit=${UNIT}; systemctl show -p ActiveState -p Slice -p Delegate -p MemoryAccounting $unit; grep -c $unit /proc/$(podman inspect -f '{{.State.Pid}}' s)/cgroup; podman stats --no-stream --format '{{.Name}}' s; podman exec s echo in; podman stop -t 60 s; podman wait s; podman rm s; systemctl list-units --all --no-legend 'libpod-[0-9a-f]*' | wc -l`,
	},
	{
		line: `mkdir $DIR/e; sed -e 's|"linux": {|"linux": { "cgroupsPath": "/a/b",|' $BUNDLE/config.json >$DIR/e/config.json; runc --systemd-cgroup run --bundle $DIR/e z; echo $?; rm -r $DIR/e; runc list -q`,
	},
];
