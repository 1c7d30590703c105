/*
 * The MC146818 real-time clock and its CMOS RAM at ports 0x70 (index) and 0x71 (data). It shows the host's time in UTC,
 * in BCD or binary, with 24 or 12 hours as register B says. If the guest sets the time, the difference is kept. Without
 * this clock stock kernels wait many seconds for one that never ticks. It has no alarm and no interrupt, and the ACPI
 * tables announce none. Registers: Motorola MC146818A data sheet.
 */
import type { BusDevice } from "../base/bus.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

const SECONDS = 0x00;
const MINUTES = 0x02;
const HOURS = 0x04;
const DAY_OF_WEEK = 0x06;
const DAY_OF_MONTH = 0x07;
const MONTH = 0x08;
const YEAR = 0x09;
const REG_A = 0x0a;
const REG_B = 0x0b;
const REG_C = 0x0c;
const REG_D = 0x0d;
/* The century's register on PCs, which the FADT names. */
const CENTURY = 0x32;

const CMOS_BYTES = 128;
/* Between the last year that the registers can hold (25755) and the last year of a Date (275760). */
const MAX_OFFSET_MS = 1e15;

const UIP = 0x80;
const DIVIDER_32KHZ_1024HZ = 0x26;
const SET = 0x80;
const DM_BINARY = 0x04;
const HOURS_24 = 0x02;
const PM = 0x80;
const VRT = 0x80;

const CLOCK_REGISTERS = [SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY_OF_MONTH, MONTH, YEAR, CENTURY];

export class Rtc implements BusDevice, Stateful {
	readonly name = "rtc";
	readonly #nowMs: () => number;
	readonly #cmos = new Uint8Array(CMOS_BYTES);
	#index = 0;
	/* Guest time minus host time. */
	#offsetMs = 0;

	/** @param nowMs the time in milliseconds since 1970, UTC */
	constructor(nowMs: () => number = Date.now) {
		this.#nowMs = nowMs;
		this.#cmos[REG_A] = DIVIDER_32KHZ_1024HZ;
		this.#cmos[REG_B] = HOURS_24;
		this.#cmos[REG_D] = VRT;
	}

	read(offset: number, _size: number): number {
		if (offset !== 1) return 0xff;
		const stopped = (this.#cmos[REG_B]! & SET) !== 0;
		if (this.#index === REG_A) {
			/* The chip sets UIP for a moment before each second. */
			const updating = !stopped && this.#timeMs() % 1000 >= 999;
			return (this.#cmos[REG_A]! & ~UIP) | (updating ? UIP : 0);
		}
		if (!stopped && CLOCK_REGISTERS.includes(this.#index)) this.#load();
		return this.#cmos[this.#index]!;
	}

	write(offset: number, _size: number, value: number): void {
		const byte = value & 0xff;
		if (offset === 0) {
			/* Bit 7 masks the NMI on a PC. */
			this.#index = byte & 0x7f;
			return;
		}
		const before = this.#cmos[REG_B]!;
		if (this.#index === REG_C || this.#index === REG_D) return;
		/* In a running clock the other registers go on with the time. */
		if ((before & SET) === 0) this.#load();
		this.#cmos[this.#index] = this.#index === REG_A ? byte & ~UIP : byte;
		if (this.#index === REG_B) {
			/* At the end of SET the clock starts at the time in its registers, read in the mode of their writes. */
			if ((before & SET) !== 0 && (byte & SET) === 0) this.#store();
		} else if ((before & SET) === 0 && CLOCK_REGISTERS.includes(this.#index)) {
			this.#store();
		}
	}

	/**
	 * The guest's time is saved as its difference from the host's, so a restored clock counts the time that has passed.
	 */
	save(): SavedState {
		return { version: 1, cmos: this.#cmos.slice(), index: this.#index, offsetMs: this.#offsetMs };
	}

	restore(state: unknown): void {
		const reader = new StateReader(this.name, state).version(1);
		const cmos = reader.bytes("cmos", CMOS_BYTES);
		const index = reader.integer("index", 0, CMOS_BYTES - 1);
		const offsetMs = reader.integer("offsetMs", -MAX_OFFSET_MS, MAX_OFFSET_MS);
		this.#cmos.set(cmos);
		this.#index = index;
		this.#offsetMs = offsetMs;
	}

	#timeMs(): number {
		return this.#nowMs() + this.#offsetMs;
	}

	/** Time into registers. */
	#load(): void {
		const time = new Date(this.#timeMs());
		const year = time.getUTCFullYear();
		this.#cmos[SECONDS] = this.#encode(time.getUTCSeconds());
		this.#cmos[MINUTES] = this.#encode(time.getUTCMinutes());
		this.#cmos[HOURS] = this.#encodeHours(time.getUTCHours());
		this.#cmos[DAY_OF_WEEK] = this.#encode(time.getUTCDay() + 1);
		this.#cmos[DAY_OF_MONTH] = this.#encode(time.getUTCDate());
		this.#cmos[MONTH] = this.#encode(time.getUTCMonth() + 1);
		this.#cmos[YEAR] = this.#encode(year % 100);
		this.#cmos[CENTURY] = this.#encode(Math.floor(year / 100));
	}

	/** Registers into time. An impossible date carries over in Date.UTC, which is harmless. */
	#store(): void {
		const field = (register: number): number => this.#decode(this.#cmos[register]!);
		const ms = Date.UTC(
			field(CENTURY) * 100 + field(YEAR),
			field(MONTH) - 1,
			field(DAY_OF_MONTH),
			this.#decodeHours(this.#cmos[HOURS]!),
			field(MINUTES),
			field(SECONDS),
		);
		this.#offsetMs = ms - this.#nowMs();
	}

	#encode(value: number): number {
		if ((this.#cmos[REG_B]! & DM_BINARY) !== 0) return value;
		return (Math.floor(value / 10) << 4) | (value % 10);
	}

	#decode(value: number): number {
		if ((this.#cmos[REG_B]! & DM_BINARY) !== 0) return value;
		return (value >> 4) * 10 + (value & 0xf);
	}

	#encodeHours(hours: number): number {
		if ((this.#cmos[REG_B]! & HOURS_24) !== 0) return this.#encode(hours);
		return this.#encode(hours % 12 === 0 ? 12 : hours % 12) | (hours >= 12 ? PM : 0);
	}

	#decodeHours(value: number): number {
		if ((this.#cmos[REG_B]! & HOURS_24) !== 0) return this.#decode(value);
		return (this.#decode(value & ~PM) % 12) + ((value & PM) !== 0 ? 12 : 0);
	}
}
