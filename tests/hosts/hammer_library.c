/* Functions whose results name their version: the number in STAMP, which the test overwrites in the built file. */
#include <stdatomic.h>

#define STAMP 0x5a5a0001

static _Atomic long calls;
static __thread long mine;

/* Not part of any version, so never patched: contended, it is where most threads stand most of the time. */
__attribute__((noinline)) static void count(void) {
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    mine++;
}

#define STEP(n)                                                                                                              \
    long step_##n(long x) {                                                                                                  \
        count();                                                                                                             \
        return x * 7 + STAMP;                                                                                                \
    }

STEP(0)
STEP(1)
STEP(2)
STEP(3)
STEP(4)
STEP(5)
STEP(6)
STEP(7)

long total(void) {
    return calls;
}

long of_this_thread(void) {
    return mine;
}
