/* What is edited leads to what is not in every way that code can: that runs where it ran, on the state that it had, also once
   it is edited itself. */
#include <stdio.h>

static volatile long sink;

#if VERSION < 3
#define LEAF 10
#else
#define LEAF 20
#endif
#if VERSION < 2
#define EDITED 1000
#else
#define EDITED 2000
#endif

/* Not edited: each counts its calls. */
__attribute__((noinline)) static long step(void) { static long calls; return ++calls; }
__attribute__((noinline)) long exported_step(void) { static long calls; return ++calls; }
__attribute__((noinline)) static long twice(void) { static long calls; return calls += 2; }
__attribute__((noinline, cold)) static long fail(void) { static long calls; sink = calls; return ++calls; }
__attribute__((noinline)) static long through_callee(void) { return step(); }
static long (*const table[])(void) = {step, twice};
static long (*held)(void) = step;

/* Edited in version 3 only. */
__attribute__((noinline)) static long leaf(void) { static long calls; return ++calls * LEAF; }

/* Edited in version 2 only. */
long direct(long x) { return EDITED + x + step(); }
long tail(long x) { sink = EDITED + x; return step(); }
long conditional_tail(long x) { sink = EDITED; if (x) return step(); return exported_step(); }
long plt(long x) { return EDITED + x + exported_step(); }
long deeper(long x) { return EDITED + x + through_callee(); }
long by_table(long x) { return EDITED + table[x & 1](); }
long by_pointer(long x) { return EDITED + x + held(); }
long same_pointer(long x) { long (*volatile own)(void) = step; return EDITED + x + (own == held && own == table[0]); }
long to_leaf(long x) { return EDITED + x + leaf(); }
long cases(long x) {
    switch (x) {
    case 0: return EDITED + step();
    case 1: sink = 4; return EDITED + fail() + sink;
    case 2: sink = 5; return EDITED + fail() * 2;
    case 3: return EDITED + twice();
    case 4: sink = 7; return EDITED + exported_step();
    case 5: sink = 8; return EDITED * 3 + fail();
    case 6: return EDITED + step() * 2;
    }
    return EDITED;
}
long labels(long x) {
    static const void *const to[] = {&&one, &&two, &&rare};
    goto *to[x % 3];
one:
    return EDITED + step();
two:
    return EDITED + exported_step();
rare:
    return EDITED + fail();
}
/* Only where the labels lie in the table: the old code jumps by the new one. */
long dispatch(long x) {
    static long calls;
#if VERSION < 2
    static void *to[] = {&&up, &&down};
#else
    static void *to[] = {&&down, &&up};
#endif
    goto *to[x & 1];
up:
    return ++calls * 10;
down:
    return ++calls * -10;
}
#if VERSION >= 2
__attribute__((noinline)) static long fresh(long x) { return x * 7 + step(); }
long asks_fresh(long x) { return fresh(x) + exported_step(); }
#else
long asks_fresh(long x) { return x; }
#endif
long calls_so_far(long x) { (void)x; return step(); }
