/* A static becomes visible to other files, and half of the functions that use it are others. Linkers make what is hidden local
   again, but put it into no file. */
#if VERSION == 1
static long count = 5;
#else
__attribute__((visibility("hidden"))) long count = 6;
#endif

long add(long x) { return count += x; }
long get(long x) { return count + x; }
#if VERSION == 1
long twice(long x) { return count * 2 + x; }
long thrice(long x) { return count * 3 + x; }
#else
long four_times(long x) { return count * 4 + x; }
long five_times(long x) { return count * 5 + x; }
#endif
