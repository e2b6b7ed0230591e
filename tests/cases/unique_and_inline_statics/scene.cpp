#include "shape.h"
struct Own {};
#if VERSION >= 2
static long before[5] = {1};
#endif
extern "C" long compute(long x) {
    all += x;
    here += x;
    Counted<int>::made += x;
    table_of<int>[1] += x;
#if VERSION >= 2
    before[x & 3]++;
    /* So far only the neighbour's. */
    Counted<char>::made += 100 * x;
#endif
    return Counted<int>::made + all * 100 + table_of<int>[1] * 10000 + here * 1000000 + VERSION * 100000000L;
}
extern "C" long next(long x) { return Counted<int>::next(x) * VERSION; }
extern "C" long fresh(long x) {
#if VERSION >= 2
    return Counted<Own>::made += x;
#else
    return x;
#endif
}
