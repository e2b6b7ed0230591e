/* State that the user migrates by hand: `struct item` grows, and `superreload_after` carries the old items over. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 8 };

struct item {
    long amount;
#if VERSION >= 2
    long doubled;
#endif
};

static struct item *items[MOST];
static long count, busy, before_seen, after_seen;

#if VERSION == 1 || VERSION == 2
int superreload_before(unsigned generation) {
    before_seen = before_seen * 10 + generation;
    return busy ? 5 : 0;
}
#endif

#if VERSION == 2
int superreload_after(unsigned generation) {
    after_seen = generation;
    for (long i = 0; i < count; i++) {
        struct item *grown = malloc(sizeof *grown);
        memcpy(grown, items[i], sizeof(long));
        grown->doubled = grown->amount * 2;
        items[i] = grown;
    }
    return 0;
}
#elif VERSION == 3
int superreload_after(unsigned generation) {
    after_seen = generation;
    return 7;
}
#elif VERSION == 4
int superreload_after(unsigned generation) {
    sleep(7);
    return 0;
}
#endif

long add(long amount) {
    items[count] = calloc(1, sizeof(struct item));
    items[count]->amount = amount;
    return ++count;
}

long compute(long x) {
    long sum = VERSION * 100000 + x;
    for (long i = 0; i < count; i++) {
        sum += items[i]->amount;
#if VERSION >= 2
        sum += 100 * items[i]->doubled;
#endif
    }
    return sum;
}

long set_busy(long value) { return busy = value; }
long seen(long x) { return before_seen * 100 + after_seen + x; }
