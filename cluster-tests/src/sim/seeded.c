/*
 * getrandom(2) from a seed. The order of hash maps, the runtime's choices among ready branches and every other
 * random number of a process come from this one call: with BRISTLECONE_SIM_SEED set, a process has one future.
 * Without it, the system's own.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static enum { UNKNOWN, SYSTEM, SEEDED } source = UNKNOWN;
static uint64_t state;

static uint64_t next(void) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
  if (source == UNKNOWN) {
    const char *seed = getenv("BRISTLECONE_SIM_SEED");
    source = seed ? SEEDED : SYSTEM;
    state = seed ? strtoull(seed, NULL, 10) : 0;
  }
  if (source == SYSTEM) {
    return syscall(SYS_getrandom, buffer, length, flags);
  }
  unsigned char *bytes = buffer;
  for (size_t i = 0; i < length; i++) {
    bytes[i] = (unsigned char)next();
  }
  return (ssize_t)length;
}
