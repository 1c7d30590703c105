/*
 * What every bare-metal guest begins with: a header for the loader (test/guest/bare-guest.ts), descriptor tables, and
 * interrupt stubs. The loader enters `main` directly in ring 3, 64-bit: on a software KVM kernel-mode code is
 * interpreted, ring 3 runs at full speed. Only interrupts and the services at the end reach ring 0: the instructions
 * that ring 3 may not use there, port I/O among them whatever IOPL says. A service is asked for by UD2, because INT n
 * and SYSCALL of ring 3 do not arrive on such a KVM.
 */
    .section .header, "aw"
    .ascii "TSVMBARE"          /* magic */
    .quad main                 /* entry, rdi = number of the vCPU */
    .quad gdt, gdt_end - gdt
    .quad idt, idt_end - idt
    .quad tss, TSS_BYTES       /* one TSS per vCPU */
    .quad stacks, STACK_BYTES  /* one user stack per vCPU */
    .quad machine_entry        /* where a Machine enters, by PVH: 32-bit code without paging */

    .set VCPUS, 4
    .set TSS_BYTES, 128
    .set STACK_BYTES, 8192

    .data
    .balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff   /* 0x08 kernel code */
    .quad 0x00cf93000000ffff   /* 0x10 kernel data */
    .quad 0x00cff3000000ffff   /* 0x18 user data */
    .quad 0x00affb000000ffff   /* 0x20 user code */
gdt_tss:
    .quad 0x0000890000000067   /* 0x28 the TSS of vCPU 0; its address is filled in by machine_entry */
    .quad 0
gdt_end:

    .balign 16
tss:
    .set number, 0
    .rept VCPUS
    .long 0
    .quad kernel_stacks + (number + 1) * STACK_BYTES
    .zero TSS_BYTES - 12
    .set number, number + 1
    .endr

    /* Gates: the stub's address is below 1 MiB + 64 KiB, so that its parts are known to the assembler. */
    .macro gate stub
    .word \stub - 0x100000
    .word 0x08
    .byte 0, 0xee              /* present, DPL 3, interrupt gate */
    .word 0x10
    .quad 0
    .endm

gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
idt_pointer:
    .word idt_end - idt - 1
    .long idt

    .balign 16
idt:
    .set vector, 0
    .rept 32
    gate exception_stubs+vector*16
    .set vector, vector + 1
    .endr
    .set vector, 32
    .rept 96
    gate interrupt_stubs+(vector-32)*16
    .set vector, vector + 1
    .endr
idt_end:

    .bss
    .balign 4096
root:                          /* page tables of machine_entry */
    .zero 4096
pointers:
    .zero 4096
directories:
    .zero 4 * 4096
kernel_stacks:
    .zero VCPUS * STACK_BYTES
stacks:
    .zero VCPUS * STACK_BYTES
    .globl interrupts
interrupts:                    /* how often each vector came, 32 bits each */
    .zero 256 * 4

    .text
    /* An exception ends the guest: exit status 0x80 + vector, on the port that the loader listens on. */
    .balign 16
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if vector == 6
    jmp service
    .else
    mov $(0x80 + vector), %al
    jmp fault
    .endif
    .set vector, vector + 1
    .endr

fault:
    mov $0x500, %dx
    out %al, %dx
    jmp fault

    /* An interrupt is counted and acknowledged at the local APIC. */
    .balign 16
interrupt_stubs:
    .set vector, 32
    .rept 96
    .balign 16
    lock incl interrupts + vector * 4
    jmp acknowledge
    .set vector, vector + 1
    .endr

acknowledge:
    push %rax
    mov $0xfee000b0, %eax
    movl $0, (%rax)
    pop %rax
    iretq

    /* UD2 with the number of a service in r11; any other invalid opcode is an exception as the others. */
service:
    cmp $((services_end - services) / 8), %r11
    jae invalid_opcode
    addq $2, (%rsp)
    jmp *services(, %r11, 8)
invalid_opcode:
    mov $0x86, %al
    jmp fault

    .macro define_service name instruction:vararg
\name:
    \instruction
    iretq
    .endm

    define_service halt_service hlt
    define_service outb_service out %al, %dx
    define_service inb_service in %dx, %al
    define_service outl_service out %eax, %dx
    define_service inl_service in %dx, %eax
    define_service rep_outsb_service rep outsb
    define_service rep_insb_service rep insb
    define_service sti_service orl $0x200, 16(%rsp) /* IF of the flags that iretq restores */

triple_fault_service:
    lidt no_idt
    ud2

    /*
     * A Machine has vCPU 0 here: it makes what the loader of the other guests makes, and goes to ring 3. All memory
     * below 4 GiB is mapped by 2 MiB pages: present, writable, user.
     */
    .code32
machine_entry:
    movl $directories, %edi
    movl $0x87, %eax
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    cmpl $directories + 4 * 4096, %edi
    jne 1b
    movl $pointers + 7, root
    movl $directories + 7, pointers
    movl $directories + 4096 + 7, pointers + 8
    movl $directories + 2 * 4096 + 7, pointers + 16
    movl $directories + 3 * 4096 + 7, pointers + 24
    movl $tss, %eax
    movw %ax, gdt_tss + 2
    shrl $16, %eax
    movb %al, gdt_tss + 4
    movb %ah, gdt_tss + 7
    movl $root, %eax
    movl %eax, %cr3
    movl $0x620, %eax          /* OSXMMEXCPT, OSFXSR, PAE */
    movl %eax, %cr4
    movl $0xc0000080, %ecx     /* EFER */
    rdmsr
    orl $0x100, %eax           /* LME */
    wrmsr
    movl $0x80050033, %eax     /* PG, AM, WP, NE, ET, MP, PE */
    movl %eax, %cr0
    lgdt gdt_pointer
    lidt idt_pointer
    ljmp $0x08, $long_mode

    .code64
long_mode:
    movl $0x28, %eax
    ltr %ax
    movl $0x1b, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl $kernel_stacks + STACK_BYTES, %esp
    pushq $0x1b
    pushq $stacks + STACK_BYTES - 8
    pushq $2
    pushq $0x23
    pushq $main
    xorl %edi, %edi
    iretq

    .section .rodata
    .balign 8
services:                      /* in the order of guest.h */
    .quad halt_service, triple_fault_service, outb_service, inb_service, outl_service, inl_service
    .quad rep_outsb_service, rep_insb_service, sti_service
services_end:

no_idt:
    .word 0
    .quad 0
