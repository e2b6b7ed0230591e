/* Version 2 calls a static by another name and does without others, and without a function that the neighbour calls and that a
 * pointer leads to. */
#if VERSION == 2
#define hits visits

static long thrice(long x) {
    return 3 * x;
}
#define chosen thrice
#else
#define chosen twice
static int spare = 7;
static __thread long of_this_thread;

long spend(long x) {
    of_this_thread += x;
    spare += x;
    return spare * 100 + of_this_thread;
}

long twice(long x) {
    return 2 * x;
}
#endif

static long hits = 40;
static long (*current)(long);

long choose(long x) {
    current = chosen;
    return x;
}

long through_pointer(long x) {
    return current(x);
}

long step(long x) {
    hits += x;
    return hits;
}
