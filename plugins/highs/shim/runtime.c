/*
 * What the C++ runtime lacks in a build without exceptions. HiGHS throws where memory runs out and
 * where its own state is impossible: both end the job, with a word in its log. Files cannot make it
 * throw, because HiGHS never sees one.
 */
#include <stdio.h>
#include <stdlib.h>

int __cxa_atexit(void (*function)(void*), void* argument, void* library);

int __cxa_thread_atexit(void (*function)(void*), void* object, void* library) {
  return __cxa_atexit(function, object, library);
}

/* What is thrown is made before __cxa_throw is called, so it needs a place. 256 bytes are for the
 * header that a runtime with exceptions would put before it. */
void* __cxa_allocate_exception(unsigned long size) { return malloc(size + 256); }
void __cxa_free_exception(void* thrown) { free(thrown); }
void __cxa_throw(void* thrown, void* type, void (*destroy)(void*)) {
  (void)thrown;
  (void)type;
  (void)destroy;
  fputs("HiGHS threw an exception: out of memory, or a defect in HiGHS\n", stderr);
  abort();
}
void* __cxa_begin_catch(void* thrown) { return thrown; }
void __cxa_end_catch(void) {}
void __cxa_rethrow(void) { abort(); }
