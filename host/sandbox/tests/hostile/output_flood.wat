;; Prints without end.
;; expect: output-too-large
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\00\00\00\00\00\80\00\00")
  (func (export "_start") (loop $l
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))))
