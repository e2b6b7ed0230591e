#include "shape.h"
extern "C" long made_by_all(long x) { return (Counted<int>::made += x) + all * 100 + table_of<int>[1] * 10000; }
extern "C" long made_of_others(long x) { return Counted<char>::made += x; }
extern "C" long neighbours_next(long x) { return Counted<int>::next(x); }
extern "C" long neighbours_here(long x) { return here += x; }
