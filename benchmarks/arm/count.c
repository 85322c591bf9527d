// A plugin of QEMU that counts the instructions an ARM program runs between two markers, one line a region to the file out=FILE.
// The markers are hints without a meaning to hardware: HINT #0x50 begins a region, HINT #0x51 ends it. One thread only.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

// What is used of qemu-plugin.h, which Debian does not package.
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
enum { ADD_U64 };
enum { NO_REGISTERS };
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int operation, void *counter, uint64_t value);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned cpu, void *), int flags, void *);

#define HINT(n) (0xD503201Fu | (n) << 5)
#define EXPORTED __attribute__((visibility("default")))

EXPORTED int qemu_plugin_version = 1;
static uint64_t executed, at_begin;
static FILE *out;

static void begin(unsigned cpu, void *nothing) {
    (void)cpu, (void)nothing;
    at_begin = executed;
}

static void end(unsigned cpu, void *nothing) {
    (void)cpu, (void)nothing;
    fprintf(out, "%llu\n", (unsigned long long)(executed - at_begin));
    fflush(out);
}

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); ++i) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t code;
        memcpy(&code, qemu_plugin_insn_data(instruction), sizeof code);
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD_U64, &executed, 1);
        if (code == HINT(0x50)) qemu_plugin_register_vcpu_insn_exec_cb(instruction, begin, NO_REGISTERS, NULL);
        if (code == HINT(0x51)) qemu_plugin_register_vcpu_insn_exec_cb(instruction, end, NO_REGISTERS, NULL);
    }
}

EXPORTED int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; ++i) {
        if (!strncmp(arguments[i], "out=", 4)) out = fopen(arguments[i] + 4, "w");
    }
    if (!out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
