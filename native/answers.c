/*
 * Exits that a vCPU thread answers without JavaScript. Posted writes go into a ring, which JavaScript empties
 * later. A shadow word answers reads of a register, and an acknowledgement clears bits in it. loopRegister
 * says at which addresses.
 *
 *     exit -> access_register -> find -> post (posted write) | shadow word (read, acknowledgement)
 */
#include "runloop.h"
#include <linux/kvm.h>

static const struct reg *find(struct loop *loop, bool pio, bool write, uint64_t address, uint32_t size) {
    unsigned count = atomic_load_explicit(&loop->registers, memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        const struct reg *reg = &loop->table[i];
        if (reg->address == address && reg->size == size && reg->pio == pio &&
            (reg->kind != REGISTER_SHADOW_READ) == write)
            return reg;
    }
    return NULL;
}

/* Queues `count` values. False when they do not all fit. */
static bool post(struct vcpu *vcpu, const struct reg *reg, const uint8_t *data, uint32_t count) {
    struct loop *loop = vcpu->loop;
    struct posted_ring *ring = &loop->posted;
    bool fits;
    pthread_mutex_lock(&loop->posting);
    uint32_t tail = ring->tail, head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    fits = count <= POSTED_ENTRIES - (tail - head);
    if (fits) {
        for (uint32_t i = 0; i < count; i++, data += reg->size) {
            struct posted_entry *entry = &ring->entries[(tail + i) % POSTED_ENTRIES];
            *entry =
                (struct posted_entry){reg->address, 0, (uint16_t)reg->size, reg->pio, (uint8_t)vcpu->index};
            memcpy(&entry->value, data, reg->size);
        }
        __atomic_store_n(&ring->tail, tail + count, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&loop->posting);
    if (fits)
        wake(loop);
    return fits;
}

/* Answers `count` accesses to a registered address. False when TypeScript must see the exit. */
static bool access_register(struct vcpu *vcpu, bool pio, bool write, uint64_t address, uint32_t size,
                            uint8_t *data, uint32_t count) {
    const struct reg *reg = find(vcpu->loop, pio, write, address, size);
    if (reg == NULL)
        return false;
    if (reg->kind == REGISTER_POSTED_WRITE)
        return post(vcpu, reg, data, count);
    _Atomic int32_t *word = &vcpu->loop->shadow[reg->word];
    for (uint32_t i = 0; i < count; i++, data += size) {
        int32_t value = 0;
        if (write) {
            memcpy(&value, data, size);
            atomic_fetch_and(word, ~value);
        } else {
            value = atomic_load(word);
            memcpy(data, &value, size);
        }
    }
    return true;
}

bool answer(struct vcpu *vcpu) {
    struct kvm_run *run = vcpu->run;
    if (run->exit_reason == KVM_EXIT_MMIO)
        return access_register(vcpu, false, run->mmio.is_write, run->mmio.phys_addr, run->mmio.len,
                               run->mmio.data, 1);
    if (run->exit_reason == KVM_EXIT_IO)
        return access_register(vcpu, true, run->io.direction == KVM_EXIT_IO_OUT, run->io.port, run->io.size,
                               (uint8_t *)run + run->io.data_offset, run->io.count);
    return false;
}

NATIVE(loopRegister) {
    ARGUMENTS(6);
    HANDLE(loop);
    struct reg reg = {
        .pio = BOOL(1),
        .address = SIZE(2),
        .size = (uint32_t)INT(3),
        .kind = (uint8_t)INT(4),
        .word = (uint16_t)INT(5),
    };
    unsigned count = atomic_load(&loop->registers);
    bool fits = INT(3) >= 1 && INT(3) <= 4 && INT(4) >= REGISTER_POSTED_WRITE &&
                INT(4) <= REGISTER_ACK_WRITE && INT(5) >= 0 && INT(5) < SHADOW_WORDS;
    if (count == MAX_REGISTERS || !fits)
        return throw_errno(env, "register an address", count == MAX_REGISTERS ? ENOSPC : EINVAL);
    loop->table[count] = reg;
    atomic_store_explicit(&loop->registers, count + 1, memory_order_release); /* pairs with find() */
    return NULL;
}
