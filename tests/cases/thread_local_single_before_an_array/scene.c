/* An index into the single element stands beside the same offset as one into the array behind it that begins with 1. The array has
   grown and starts anew: it is nothing that code which was there before could mean, and no reason to refuse that. */
static __thread long behind[VERSION >= 2 ? 8 : 4] = {1, 2};
static __thread long single[1] = {5};

long pick(long x) { return single[x]; }

long set(long value) { return single[0] = value; }

long grow(long x) { return behind[x & 3] += 1; }
