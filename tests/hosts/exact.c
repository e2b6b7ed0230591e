/* One thread that notices if anything of its state changes: registers, vectors, flags, the bytes below its stack pointer,
 * errno, its signal mask and its alternate signal stack. It never waits.
 *
 *   count    how often it has checked itself, or what was wrong
 *
 * It ends at the end of its input. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REGISTERS = 12, VECTORS = 16, SLOTS = 16 };

static uint64_t registers[REGISTERS], below[SLOTS];
static uint8_t vectors[VECTORS][32], pattern[VECTORS][32];
static uint64_t carry;

/* Everything it loads it stores again after a while. The red zone is its own: this file is built without one. */
__attribute__((target("avx"), noinline)) static void hold(void) {
    __asm__ volatile(
        "lea %[pattern], %%rax\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "vmovdqu (32 * \\n)(%%rax), %%ymm\\n\n"
        "movq $(\\n + 0x500), (-8 * \\n - 8)(%%rsp)\n"
        ".endr\n"
        "mov $0x100, %%rax; mov $0x101, %%rbx; mov $0x102, %%rdx; mov $0x103, %%rsi; mov $0x104, %%rdi\n"
        "mov $0x105, %%r8; mov $0x106, %%r9; mov $0x107, %%r10; mov $0x108, %%r11; mov $0x109, %%r12\n"
        "mov $0x10a, %%r13; mov $0x10b, %%r14\n"
        "mov $300000, %%rcx\n"
        "1: dec %%rcx\n"
        "jnz 1b\n"
        "stc\n"
        "mov $300000, %%r15\n"
        "2: lea -1(%%r15), %%r15\n" /* leaves the flags alone */
        "mov %%r15, %%rcx\n"
        "jrcxz 3f\n"
        "jmp 2b\n"
        "3: setc %[carry]\n"
        "mov %%rax, 0 + %[registers]; mov %%rbx, 8 + %[registers]; mov %%rdx, 16 + %[registers]\n"
        "mov %%rsi, 24 + %[registers]; mov %%rdi, 32 + %[registers]; mov %%r8, 40 + %[registers]\n"
        "mov %%r9, 48 + %[registers]; mov %%r10, 56 + %[registers]; mov %%r11, 64 + %[registers]\n"
        "mov %%r12, 72 + %[registers]; mov %%r13, 80 + %[registers]; mov %%r14, 88 + %[registers]\n"
        "lea %[vectors], %%rax\n"
        "lea %[below], %%rbx\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "vmovdqu %%ymm\\n, (32 * \\n)(%%rax)\n"
        "mov (-8 * \\n - 8)(%%rsp), %%rcx\n"
        "mov %%rcx, (8 * \\n)(%%rbx)\n"
        ".endr\n"
        : [registers] "=m"(registers), [vectors] "=m"(vectors), [below] "=m"(below), [carry] "=m"(carry)
        : [pattern] "m"(pattern)
        : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2",
          "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc",
          "memory");
}

static const char *check(void) {
    for (int i = 0; i < REGISTERS; i++)
        if (registers[i] != 0x100u + i)
            return "a register changed";
    for (int i = 0; i < SLOTS; i++)
        if (below[i] != 0x500u + i)
            return "the red zone changed";
    if (memcmp(vectors, pattern, sizeof pattern))
        return "a vector register changed";
    if (!(carry & 1))
        return "the flags changed";
    return NULL;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    static char room[1 << 16];
    stack_t stack = {room, 0, sizeof room}, now;
    sigaltstack(&stack, NULL);
    sigset_t blocked, mask;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    for (int i = 0; i < (int)sizeof pattern; i++)
        pattern[i / 32][i % 32] = (uint8_t)(i * 7 + 1);
    printf("ready %d\n", getpid());
    const char *wrong = NULL;
    for (long count = 0;; count++) {
        struct pollfd input = {0, POLLIN, 0};
        if (poll(&input, 1, 0) > 0) {
            char line[64];
            if (!fgets(line, sizeof line, stdin))
                return 0;
            if (wrong)
                printf(">error: %s\n", wrong);
            else
                printf(">%ld\n", count);
        }
        errno = 4242;
        hold();
        const char *found = check();
        if (errno != 4242)
            found = "errno changed";
        sigprocmask(SIG_SETMASK, NULL, &mask);
        sigaltstack(NULL, &now);
        if (memcmp(&mask, &blocked, 8))
            found = "the signal mask changed";
        if (now.ss_sp != room || now.ss_size != sizeof room || now.ss_flags)
            found = "the alternate stack changed";
        if (found)
            wrong = found;
    }
}
