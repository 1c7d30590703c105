/* A kernel that takes AVX from XCR0 and asks for a reset: in the lab that is the XCR0 of the machine around it. */
	.globl _start
	.text
_start:
	mov %cr4, %rax
	or $0x40000, %rax	/* OSXSAVE */
	mov %rax, %cr4
	xor %ecx, %ecx
	xor %edx, %edx
	mov $3, %eax		/* x87 and SSE */
	xsetbv
	mov $0xfe, %al
	out %al, $0x64
1:	hlt
	jmp 1b
