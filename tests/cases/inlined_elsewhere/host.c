#include "scaled.h"
long in_program(long x) {
    x += 1;
    return scaled(x);
}
