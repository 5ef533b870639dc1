;; Guesses a handle.
;; expect: trap
(module
  (import "optwasm_v1" "blob_read" (func $read (param i32 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $read (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 1)))))
