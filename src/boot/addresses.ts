/*
 * The guest-physical addresses of boot data below 1 MiB. The kernel copies what it needs before it reuses the memory.
 * The ACPI and MP tables stay, because the e820 map reserves their area.
 *
 *     0x00500 GDT   0x06000 PVH start info   0x07000 zero page   0x09000 page tables   0x20000 command line
 *     0xa0000 (legacy video: nothing)   0xdfff0 generation ID   0xe0000 RSDP and ACPI tables   0xf0000 MP table
 *     0x100000 kernel
 */

/** Global descriptor table of the boot CPU. */
export const GDT_ADDRESS = 0x500;
/** struct hvm_start_info, its memory map and module list: one page. */
export const START_INFO_ADDRESS = 0x6000;
/** struct boot_params ("zero page"), one page. */
export const ZERO_PAGE_ADDRESS = 0x7000;
/** PML4, PDPT and four page directories: six pages that map the first 4 GiB one to one. */
export const PAGE_TABLES_ADDRESS = 0x9000;
/** The kernel's command line, NUL-terminated. */
export const CMDLINE_ADDRESS = 0x20000;
/** End of conventional memory. */
export const LOW_MEMORY_END = 0xa0000;
/** The page of the generation ID. A guest must not use it as RAM, and never maps it uncached. */
export const GENERATION_PAGE = 0xdf000;
/** The generation ID, 16 bytes: not where Linux looks for the signature of a ROM, at multiples of 2 KiB. */
export const GENERATION_ID_ADDRESS = 0xdfff0;
/** RSDP and all ACPI tables; the RSDP is found by a scan from here (ACPI 6.5 §5.2.5.1). */
export const ACPI_ADDRESS = 0xe0000;
/** First byte that ACPI tables may not use. */
export const ACPI_END = 0xf0000;
/** MP floating pointer and table, found by a scan from here (MP 1.4 §4). */
export const MP_TABLE_ADDRESS = 0xf0000;
/** First byte that the MP table may not use, and the lowest address at which a kernel is loaded. */
export const HIGH_MEMORY_START = 0x100000;

/** I/O APIC and local APIC, at the addresses of every PC. */
export const IOAPIC_ADDRESS = 0xfec00000;
export const LAPIC_ADDRESS = 0xfee00000;

/** Ports and interrupts of the platform devices, for the ACPI tables and the machine's wiring. */
export const COM1_PORT = 0x3f8;
export const COM1_GSI = 4;
export const RTC_PORT = 0x70;
export const I8042_PORT = 0x60;
export const PVPANIC_PORT = 0x505;
/** ACPI sleep control, sleep status and reset registers: one byte each, in this order. */
export const ACPI_REGISTERS_PORT = 0x600;
/** Which slots of virtio-mmio devices are taken and which have changed: two words of 32 bits. */
export const HOT_PLUG_PORT = 0x610;
/** The bit of the second word that tells of a new generation ID. */
export const GENERATION_EVENT = 31;
/** The event device's interrupt. Other machines use it as ACPI's SCI, which we do not have. */
export const HOT_PLUG_GSI = 9;
