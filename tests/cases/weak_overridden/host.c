long setting = 50;
long choose(long x) { return x + 70; }
