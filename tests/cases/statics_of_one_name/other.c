static long count = 1000;
static long step(long x) { return x - VERSION; }
long other(long x) { return count = step(count) + x; }
