;; Leaves the largest checkpoint over and over, and one that is too large.
;; expect: out-of-fuel
(module
  (import "optwasm_v1" "checkpoint" (func $checkpoint (param i32 i32)))
  (memory (export "memory") 64)
  (func (export "_start") (loop $l
    (call $checkpoint (i32.const 0) (i32.const 1048576))
    (call $checkpoint (i32.const 0) (i32.const 1048577)) (br $l))))
