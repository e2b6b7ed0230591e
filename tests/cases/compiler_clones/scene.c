/* Functions that compilers take apart and specialise: the parts belong to whoever uses them, and follow. */
#include <stdlib.h>
#include <string.h>

static volatile long sink;

/* .cold: what is unlikely lies elsewhere. */
__attribute__((cold, noinline)) static long fail(long x) { return -x * VERSION; }
long guarded(long x) {
    if (__builtin_expect(x > 100, 0)) {
        sink += x;
        return fail(x) + sink - x;
    }
    return x + 1;
}

/* .constprop: a copy for the only value that is passed. */
__attribute__((noinline)) static long scaled(long x, long by, const char *how) {
    long sum = 0;
    for (long i = 0; i < by; i++)
        sum += x * VERSION + how[i % 3];
    return sum;
}
long constprop(long x) { return scaled(x, 3, "abc") + scaled(x + 1, 3, "abc"); }

/* .isra: it takes what a pointer leads to. */
struct box { long a, b, c[100]; };
__attribute__((noinline)) static long inside(struct box *box) { return box->a * VERSION + box->b; }
long isra(long x) {
    struct box box = {x, 5, {0}};
    sink = box.c[x & 63];
    return inside(&box);
}

/* .part: the rest of a function whose start is inlined. */
static long rarely(long *at) {
    if (!at)
        return -1;
    long sum = 0;
    for (long i = 0; i < at[0]; i++) {
        sum += at[1] * i * VERSION;
        sink = sum;
        sum ^= sink & 1;
        if (sum > 1000000)
            abort();
        sink += sum;
        sum += sink & 1;
    }
    return sum;
}
long part(long x) { long at[2] = {x, 2}; return rarely(x ? at : NULL); }
long part_too(long x) { long at[2] = {x, 4}; return rarely(x > 1 ? at : NULL); }
long same(long x) { return x; }
