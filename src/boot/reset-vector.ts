/*
 * The reset vector of a BIOS: real-mode code at ffff:0 that resets the machine by the ACPI reset register. Linux jumps
 * there first ("reboot=bios") on hardware-reduced ACPI without EFI.
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import { ACPI_RESET_VALUE } from "./acpi/tables.ts";
import { ACPI_REGISTERS_PORT } from "./addresses.ts";

const RESET_VECTOR = 0xffff0;
const RESET_PORT = ACPI_REGISTERS_PORT + 2;

/** Writes the code: mov dx, port; mov al, value; out dx, al; then cli and hlt for ever. */
export function writeResetVector(memory: GuestMemory): void {
	const MOV_DX = 0xba;
	const MOV_AL = 0xb0;
	const OUT_DX_AL = 0xee;
	const CLI = 0xfa;
	const HLT = 0xf4;
	const JMP_BACK_TO_HLT = [0xeb, 0xfd];
	const code = [MOV_DX, RESET_PORT & 0xff, RESET_PORT >> 8, MOV_AL, ACPI_RESET_VALUE, OUT_DX_AL, CLI, HLT];
	memory.write(RESET_VECTOR, Uint8Array.from([...code, ...JMP_BACK_TO_HLT]));
}
