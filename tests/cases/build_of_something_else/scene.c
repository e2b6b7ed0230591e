/* Version 2 is another library under the same name; version 3 does without most of what version 1 has. */
#if VERSION == 2
long other_0(long x) { return x * 2 + 0; }
long other_1(long x) { return x * 3 + 1; }
long other_2(long x) { return x * 4 + 2; }
long other_3(long x) { return x * 5 + 3; }
long other_4(long x) { return x * 6 + 4; }
long other_5(long x) { return x * 7 + 5; }
long other_6(long x) { return x * 8 + 6; }
long other_7(long x) { return x * 9 + 7; }
long other_8(long x) { return x * 10 + 8; }
long compute_all(long x) { return other_3(x); }
#else
long compute(long x) { return x * 10 + VERSION; }
#if VERSION == 1
long of_old_0(long x) { return x * 2 + 0; }
long of_old_1(long x) { return x * 3 + 1; }
long of_old_2(long x) { return x * 4 + 2; }
long of_old_3(long x) { return x * 5 + 3; }
long of_old_4(long x) { return x * 6 + 4; }
long of_old_5(long x) { return x * 7 + 5; }
long of_old_6(long x) { return x * 8 + 6; }
long of_old_7(long x) { return x * 9 + 7; }
long of_old_8(long x) { return x * 10 + 8; }
#endif
#endif
