/*
 * podman's pods: two containers of one pod are in one machine.
 */
import type { Row } from "../table.ts";

/**
 * Two containers of one pod, which is one machine. podman 4.3 forbids all devices to a pod's control group in version 2 of
 * control groups, so that runc cannot start a container there.
 */
export const PODS: readonly Row[] = [
	{
		line: `tar -C $ROOT -cf - . | podman import -c 'CMD ["/bin/sh","-c","trap exit TERM; while :; do sleep 0.2; done"]' - infra:1 >/dev/null 2>&1; podman pod create --name p --infra-image localhost/infra:1 | wc -c`,
	},
	{
		line: `podman run -d --pod p --name web --rootfs $ROOT sh -c 'trap "echo bye; exit 5" TERM; echo page >/page; echo shared >/dev/shm/x; httpd -p 8080 -h /; while :; do sleep 0.2; done' | wc -c`,
		prints: "65\n",
	},
	{
		line: `podman run --rm --pod p --rootfs $ROOT sh -c 'wget -qO- http://127.0.0.1:8080/page; cat /proc/1/comm /dev/shm/x'`,
		prints: "page\ncat\nshared\n",
	},
	{ line: "podman pod ps --format '{{.Name}} {{.Status}} {{.NumberOfContainers}}'", prints: "p Running 2\n" },
	{
		/* The infra container ends first. */
		line: "podman pod stop -t 60 p; podman inspect -f '{{.State.ExitCode}}' web; podman logs web; podman pod start p; podman ps -q | wc -l",
		prints: "ID64\n5\nbye\nID64\n2\n",
	},
	{ line: "podman pod rm -f -t 0 p | wc -c; podman ps -aq | wc -l" },
	{
		line: "podman play kube --network none $DIR/pod.yaml | grep -c '^[0-9a-f]*$'; while podman inspect -f '{{.State.Running}}' shop-client | grep -q true && ! podman logs shop-client 2>/dev/null | grep -q page; do sleep 1; done; podman exec shop-server cat /page",
		prints: "4\npage\n",
	},
	{
		line: "podman pod ps --format '{{.Name}} {{.Status}} {{.NumberOfContainers}}'; podman play kube --down $DIR/pod.yaml | wc -l",
		prints: "shop Running 3\n4\n",
	},
	{ line: "podman ps -aq | wc -l; podman rmi -af >/dev/null; podman images -q | wc -l" },
];
