/* What both libraries have and the process has once. */
template <class T> struct Counted {
    static inline long made = 0;
    static long next(long x) {
        static long calls = 100;
        return ++calls + x;
    }
};
template <class T> long table_of[3] = {1, 2, 3};
inline long all = 7;
inline thread_local long here = 1;
