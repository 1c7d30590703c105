/*
 * podman's command lines on what a container has and may. $ROOT is a root file system with busybox, $DIR a directory for
 * files.
 */
import type { Row } from "../table.ts";

const ONLY = "podman run --rm --network none";

export const SETTINGS: readonly Row[] = [
	{
		line: `podman run --rm --network none -v $DIR/rw:/noexec:noexec -v $DIR/rw:/ro:ro,nodev -v $DIR/rw:/data -v named:/named -v named:/again:ro --mount type=bind,src=$DIR/rw,dst=/bro,ro=true --mount type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=700 --mount type=volume,src=other,dst=/v --tmpfs /t:size=2m,mode=1700,noexec --rootfs $ROOT sh -c 'cp /bin/busybox /data/true; chmod 4755 /data/true; /data/true true; echo $?; /noexec/true true; echo $?; touch /ro/x /bro/x /again/x; cp /bin/busybox /t/true; /t/true true; echo $?; df -k /m /t | tail -n 2 | tr -s " " | cut -d" " -f2,6; stat -c "%a %n" /m /t; echo n >/named/n; cat /again/n; touch /v/x; ls -l /data | tail -n 1 | cut -c1-20'; rm $DIR/rw/true; podman volume ls -q; podman volume rm named other`,
	},
	{
		line: `${ONLY} --read-only --read-only-tmpfs --tmpfs /run/x --rootfs $ROOT sh -c 'touch /x /bin/x; for d in /tmp /run /var/tmp /dev/shm /dev /run/x; do touch $d/f && echo $d; done'`,
	},
	{
		line: `${ONLY} --shm-size 3m --rootfs $ROOT sh -c 'df -k /dev/shm | tail -n 1; grep " /dev/shm " /proc/mounts | cut -d" " -f2,3; touch /dev/shm/x; stat -c %a /dev/shm'`,
	},
	{ line: `${ONLY} --read-only --read-only-tmpfs=false --rootfs $ROOT touch /tmp/f /run/f` },
	{
		line: `printf s3cret | podman secret create s - | wc -c; ${ONLY} --secret s --secret s,type=env,target=SEC --secret source=s,type=mount,target=mine,mode=0400,uid=1500 --rootfs $ROOT sh -c 'cat /run/secrets/s; echo; echo $SEC; ls -ln /run/secrets | tail -n 2 | cut -c1-30'; podman secret rm s | wc -c`,
	},
	{
		line: `${ONLY} --privileged --rootfs $ROOT sh -c 'grep -E "Cap(Eff|Bnd)" /proc/self/status; echo 4096 >/proc/sys/kernel/msgmax && echo written; mkdir /mnt; mount -t tmpfs tmpfs /mnt && echo mounted; test -e /dev/kmsg && echo kmsg'`,
	},
	{
		line: `${ONLY} --init --rootfs $ROOT sh -c 'cat /proc/1/comm; (sleep 0.1 &); sleep 1; ps -o comm | grep -c sleep; kill -TERM $$'`,
	},
	{
		line: `${ONLY} -t --log-driver none --rootfs $ROOT sh -c 'echo $TERM; echo console >/dev/console; test -t 0 && test -t 1 && test -t 2 && echo tty; exit 200'`,
	},
	{
		line: `podman network create n1 >/dev/null; podman network create n2 >/dev/null; podman run --rm --network n1 --network n2 --rootfs $ROOT sh -c 'ip -4 -o addr | grep -c eth; ip route | grep -c default; ip -o link | grep -c eth'; podman network rm n1 n2`,
	},
	{
		line: `echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}' >$DIR/profile; podman run -d --name s --network none --security-opt seccomp=$DIR/profile --rootfs $ROOT sleep 1000 | wc -c; podman exec s sh -c 'mkdir /x; grep Seccomp: /proc/self/status'; podman rm -f -t 0 s | wc -c; ${ONLY} --rootfs $ROOT sh -c 'grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp'`,
	},
	{
		line: "podman run -d --name c --rootfs $ROOT sh -c 'httpd -f -p 8080 -h / & echo page >/page; sleep 1000' | wc -c; podman run --rm --network container:c --rootfs $ROOT sh -c 'ip -o link | grep -c eth0; wget -qO- http://127.0.0.1:8080/page'; podman rm -f -t 0 c | wc -c",
	},
];
