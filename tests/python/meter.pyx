# cython: language_level=3
# The module `meter` in Cython; the test keeps the lines of one version: a line ends with the versions it belongs to.

cdef long readings = 0

cdef class Probe:
    cdef public long value

    def step(self):
        self.value += VERSION
        return self.value

    def __repr__(self):
        return f"<Probe v{VERSION} at {self.value}>"

    def legacy(self): #12
        return 1 #12

    def back(self): #23
        self.value -= 1 #23
        return self.value #23

    @property #23
    def twice(self): #23
        return 2 * self.value #23

    def __len__(self): #3
        return 42 #3

cdef class Gauge: #3
    def make(self): #3
        probe = Probe() #3
        probe.value = 99 #3
        return probe #3

def scale(long value): #1
def scale(long value, long offset=0): #23
    "version 1" #1
    "version 2" #23
    global readings
    readings += 1
    return value * VERSION, readings

def retired(): #12
    return "retired" #12

def calibrate(Probe probe not None): #23
    return probe.value + VERSION #23

VERSION = 1 #1
VERSION = 2 #2
VERSION = 3 #3
