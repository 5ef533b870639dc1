/*
 * optwasm.h: write optwasm jobs in C or C++.
 *
 * A job is an ordinary WASI program: main() is called once and what it writes with
 * optwasm_output_write is the output. (A program that never calls optwasm_output_write needs none
 * of this: its stdin is the input and its stdout the output.) Build it with any clang for WASI:
 *
 *     clang --target=wasm32-wasip1 -O3 -msimd128 -I DIRECTORY-OF-THIS-FILE job.c -o job.wasm
 *
 *     #include "optwasm.h"
 *
 *     int main(void) {
 *         size_t len = optwasm_input_len();
 *         unsigned char *input = malloc(len);
 *         optwasm_input_read(0, input, len);
 *         optwasm_output_write(input, len);
 *         return 0;
 *     }
 *
 * The functions are the host's own, described normatively in docs/guest-abi.md, section 3. Text
 * is UTF-8 with a length and no terminating zero. A pointer outside the memory ends the job with a
 * trap. A call costs fuel: 100, and 1 for every 8 bytes copied.
 */
#ifndef OPTWASM_H
#define OPTWASM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define OPTWASM_NORETURN [[noreturn]]
extern "C" {
#else
#define OPTWASM_NORETURN _Noreturn
#endif

#define OPTWASM_IMPORT(name) __attribute__((import_module("optwasm_v1"), import_name(#name)))

/* ---- input and output ------------------------------------------------------------------- */

/* Length of the input in bytes. */
OPTWASM_IMPORT(input_len) int64_t optwasm_input_len(void);

/* Copies input from offset to `to`. Returns the bytes copied: fewer than len only at the end. */
OPTWASM_IMPORT(input_read) uint32_t optwasm_input_read(int64_t offset, void *to, size_t len);

/* Appends to the output. Ends the job if there is more than it may write. */
OPTWASM_IMPORT(output_write) void optwasm_output_write(const void *from, size_t len);

/* ---- errors ----------------------------------------------------------------------------- */

/* Ends the job with a domain error. The bytes are a plain message, or the CBOR map
 * {"message": text, "chain": [text]} with the causes from the nearest to the root. */
OPTWASM_NORETURN OPTWASM_IMPORT(fail) void optwasm_fail(int32_t code, const void *message,
                                                        size_t len);

/* Ends the job as a failure of the program itself, at a place in its source. OPTWASM_PANIC below
 * fills in the place. */
OPTWASM_NORETURN OPTWASM_IMPORT(panic) void optwasm_panic(const char *message, size_t message_len,
                                                          const char *file, size_t file_len,
                                                          int32_t line, int32_t column);

/* Panics with a message that is a zero-terminated string. */
#define OPTWASM_PANIC(message)                                                                     \
    optwasm_panic((message), __builtin_strlen(message), __FILE__, sizeof(__FILE__) - 1, __LINE__, 0)

/* ---- what people see while it runs ------------------------------------------------------ */

enum optwasm_level {
    OPTWASM_ERROR = 1,
    OPTWASM_WARN = 2,
    OPTWASM_INFO = 3,
    OPTWASM_DEBUG = 4,
    OPTWASM_TRACE = 5
};

/* Writes to the job's log. `target` names the part of the program that speaks; it may be empty. */
OPTWASM_IMPORT(log) void optwasm_log(int32_t level, const char *target, size_t target_len,
                                     const char *message, size_t message_len);

/* How far the job is: done of total, in any unit. Returns 0, which is reserved. */
OPTWASM_IMPORT(progress) int32_t optwasm_progress(double done, double total);

/* Publishes the best solution so far. bound is NaN where none is known. The last one is reported
 * with the outcome, whatever that is. */
OPTWASM_IMPORT(incumbent) void optwasm_incumbent(double objective, double bound,
                                                 const void *solution, size_t len);

/* ---- surviving the worker --------------------------------------------------------------- */

/* Replaces the job's last checkpoint. If the worker is lost, the next attempt finds it. The job
 * must reach the same output from there as from the start. */
OPTWASM_IMPORT(checkpoint) void optwasm_checkpoint(const void *state, size_t len);

/* Length of the last checkpoint of an earlier attempt; -1 where there is none. */
OPTWASM_IMPORT(resume_len) int64_t optwasm_resume_len(void);

/* Reads it, as optwasm_input_read reads the input. */
OPTWASM_IMPORT(resume_read) uint32_t optwasm_resume_read(int64_t offset, void *to, size_t len);

/* ---- shared data ------------------------------------------------------------------------ */

/* A handle for the blob that the job names so, or -1 where it names none. */
OPTWASM_IMPORT(blob_open) int32_t optwasm_blob_open(const char *name, size_t len);

/* Its length in bytes. An unknown handle ends the job with a trap. */
OPTWASM_IMPORT(blob_len) int64_t optwasm_blob_len(int32_t handle);

/* Reads it, as optwasm_input_read reads the input. */
OPTWASM_IMPORT(blob_read) uint32_t optwasm_blob_read(int32_t handle, int64_t offset, void *to,
                                                     size_t len);

/* ---- limits and randomness -------------------------------------------------------------- */

/* Fuel that is left; about one unit for one WebAssembly instruction. */
OPTWASM_IMPORT(fuel_left) int64_t optwasm_fuel_left(void);

/* Writes the job's 32 bytes of seed. */
OPTWASM_IMPORT(seed) void optwasm_seed(unsigned char to[32]);

#ifdef __cplusplus
}
#endif

#endif
