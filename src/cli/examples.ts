/*
 * The examples below the help of each command. They are one table, so that a test can find a command without one.
 */

/** For each command its examples. */
export const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
	tsvmm: ["tsvmm doctor", "tsvmm run busybox echo hello", "tsvmm boot --kernel vmlinux --initrd initrd.img"],
	"tsvmm boot": [
		'tsvmm boot --kernel vmlinux --disk root.img --cmdline "root=/dev/vda"',
		"tsvmm boot --kernel bzImage --initrd initrd.img --cpus 4 --memory 2G",
		"tsvmm boot --kernel vmlinux --net tap=tap0 --vsock cid=3,uds=vm.sock --console file=boot.log",
		"tsvmm boot --kernel vmlinux --initrd initrd.img --fs tag=home,path=/home/me,ro",
	],
	"tsvmm run": [
		"tsvmm run busybox uname -a",
		"tsvmm run -it busybox sh",
		"echo hello | tsvmm run -i busybox tr a-z A-Z",
		"tsvmm run --net user,host-loopback=on busybox wget -O - http://10.0.2.2:8080/",
		"tsvmm run --memory 1G -e MODE=test -p 8080:80 my/web:1.0",
	],
	"tsvmm image": ["tsvmm image import app.tar", "tsvmm image ls", "tsvmm image rm app:1.0"],
	"tsvmm image import": [
		"tsvmm image import app.tar",
		"tsvmm image import oci-layout/ app:1.0",
		"docker save app:1.0 | tsvmm image import -",
	],
	"tsvmm image ls": ["tsvmm image ls", "tsvmm image ls --json"],
	"tsvmm image rm": ["tsvmm image rm app:1.0 app:1.1"],
	"tsvmm image inspect": ["tsvmm image inspect busybox"],
	"tsvmm pull": ["tsvmm pull busybox", "tsvmm pull --insecure 10.0.0.5:5000/app:1.0"],
	"tsvmm image pull": ["tsvmm image pull quay.io/org/app:1.0"],
	"tsvmm kernel": ["tsvmm kernel fetch", "tsvmm kernel ls"],
	"tsvmm kernel fetch": ["tsvmm kernel fetch", "tsvmm kernel fetch --flavour 6.12-cloud --latest"],
	"tsvmm kernel build": ['tsvmm boot --kernel "$(tsvmm kernel build)" --initrd initrd.img'],
	"tsvmm kernel ls": ["tsvmm kernel ls", "tsvmm kernel ls --json"],
	"tsvmm lab": ["tsvmm lab up", "tsvmm lab exec -- ls -l /dev/kvm", "tsvmm lab down"],
	"tsvmm lab up": ["tsvmm lab up", "tsvmm lab up --name big --memory 4G"],
	"tsvmm lab exec": ["tsvmm lab exec -- ls -l /dev/kvm", "tsvmm lab exec -it -- sh"],
	"tsvmm lab down": ["tsvmm lab down"],
	"tsvmm lab status": ["tsvmm lab status", "tsvmm lab status --json"],
	"tsvmm doctor": ["tsvmm doctor", "tsvmm doctor --json"],
	"tsvmm completion": [
		"source <(tsvmm completion bash)",
		"source <(tsvmm completion zsh)",
		"tsvmm completion fish > ~/.config/fish/completions/tsvmm.fish",
	],
	"tsvmm manual": ["tsvmm manual | man -l -"],
};
