/*
 * Shared code of bare-metal guests. Port 0x3f8 prints a byte, and port 0x500 ends the guest with a status.
 * Ports 0x510 to 0x51f and the MMIO page at 0xd0000000 belong to the current test.
 */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define MMIO 0xd0000000ul
#define IOAPIC 0xfec00000ul
#define LAPIC 0xfee00000ul

extern volatile u32 interrupts[256];

/* Ring-0 services (start.S). */
#define SERVICE(number, outputs, inputs)                                                                     \
    __asm__ volatile("mov $" #number ", %%r11d; ud2" : outputs:inputs : "r11", "memory")
#define COMMA ,
static inline void halt(void) {
    SERVICE(0, , );
}
static inline void triple_fault(void) {
    SERVICE(1, , );
}
static inline void outb(u16 port, u8 value) {
    SERVICE(2, , "a"(value)COMMA "d"(port));
}
static inline u8 inb(u16 port) {
    u8 value;
    SERVICE(3, "=a"(value), "d"(port));
    return value;
}
static inline void outl(u16 port, u32 value) {
    SERVICE(4, , "a"(value)COMMA "d"(port));
}
static inline u32 inl(u16 port) {
    u32 value;
    SERVICE(5, "=a"(value), "d"(port));
    return value;
}
static inline void rep_outsb(u16 port, const void *from, u64 count) {
    SERVICE(6, "+S"(from)COMMA "+c"(count), "d"(port));
}
static inline void rep_insb(u16 port, void *to, u64 count) {
    SERVICE(7, "+D"(to)COMMA "+c"(count), "d"(port));
}
static inline void sti(void) {
    SERVICE(8, , );
}

static inline void write8(u64 address, u8 value) {
    __asm__ volatile("movb %0, (%1)" ::"q"(value), "r"(address) : "memory");
}
static inline u8 read8(u64 address) {
    u8 value;
    __asm__ volatile("movb (%1), %0" : "=q"(value) : "r"(address) : "memory");
    return value;
}
static inline void write16(u64 address, u16 value) {
    __asm__ volatile("movw %0, (%1)" ::"r"(value), "r"(address) : "memory");
}
static inline u16 read16(u64 address) {
    u16 value;
    __asm__ volatile("movw (%1), %0" : "=r"(value) : "r"(address) : "memory");
    return value;
}
static inline void write32(u64 address, u32 value) {
    __asm__ volatile("movl %0, (%1)" ::"r"(value), "r"(address) : "memory");
}
static inline u32 read32(u64 address) {
    u32 value;
    __asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
    return value;
}
static inline void write64(u64 address, u64 value) {
    __asm__ volatile("movq %0, (%1)" ::"r"(value), "r"(address) : "memory");
}
static inline u64 read64(u64 address) {
    u64 value;
    __asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
    return value;
}

static inline void print(const char *text) {
    for (; *text; text++)
        outb(0x3f8, (u8)*text);
}

static inline void print_number(u64 value) {
    char digits[21];
    int at = 20;
    digits[20] = 0;
    do
        digits[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    print(digits + at);
}

__attribute__((noreturn)) static inline void finish(u8 status) {
    for (;;)
        outb(0x500, status);
}

/* Leads pin `pin` of the I/O APIC to `vector` on vCPU 0, edge-triggered, and opens the local APIC. */
static inline void enable_interrupt(u32 pin, u8 vector) {
    write32(LAPIC + 0xf0, 0x1ff);    /* enabled, spurious vector 0xff */
    write32(LAPIC + 0x80, 0);        /* task priority: everything */
    write32(LAPIC + 0x350, 0x10000); /* LINT0: without the 8259s, which hear the same pin */
    write32(IOAPIC, 0x11 + 2 * pin);
    write32(IOAPIC + 0x10, 0); /* destination APIC ID 0 */
    write32(IOAPIC, 0x10 + 2 * pin);
    write32(IOAPIC + 0x10, vector);
    sti();
}

void main(u64 vcpu);

#endif
