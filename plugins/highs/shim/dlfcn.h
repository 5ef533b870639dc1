/* Dynamic libraries, of which a sandbox has none. */
#pragma once
#define RTLD_LAZY 1
#define RTLD_NOW 2
#define RTLD_LOCAL 0
#ifdef __cplusplus
extern "C" {
#endif
static inline void* dlopen(const char* path, int flags) {
  (void)path;
  (void)flags;
  return 0;
}
static inline void* dlsym(void* library, const char* name) {
  (void)library;
  (void)name;
  return 0;
}
static inline int dlclose(void* library) {
  (void)library;
  return 0;
}
static inline char* dlerror(void) { return (char*)"there are no dynamic libraries in a sandbox"; }
#ifdef __cplusplus
}
#endif
