/* Functions of three or four bytes, one right behind the other (-Os), over more than a short jump's reach: none of them has
 * room for a long one, nor any to lend. */
#define TINY(n) long before_##n(long x) { return x; }
#define TINY_AFTER(n) long after_##n(long x) { return x; }
#define EIGHT(make, n) make(n##0) make(n##1) make(n##2) make(n##3) make(n##4) make(n##5) make(n##6) make(n##7)

EIGHT(TINY, 0) EIGHT(TINY, 1) EIGHT(TINY, 2) EIGHT(TINY, 3) EIGHT(TINY, 4) EIGHT(TINY, 5)

#if VERSION == 1
long tight(long x) { return x; }
#elif VERSION < 4
long tight(long x) { return -x; }
#else
long tight(long x) { return ~x; }
#endif

EIGHT(TINY_AFTER, 0) EIGHT(TINY_AFTER, 1) EIGHT(TINY_AFTER, 2) EIGHT(TINY_AFTER, 3) EIGHT(TINY_AFTER, 4) EIGHT(TINY_AFTER, 5)

static volatile long turns = 0;

__attribute__((noinline)) long roomy(long x) {
    turns += x;
    turns ^= 0x100;
    turns ^= 0x100;
#if VERSION < 3
    return x * 3;
#else
    return x * 5;
#endif
}
