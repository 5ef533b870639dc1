function mpc = small   % a comment
%{
a block comment
%}
mpc.version = '2';
mpc.baseMVA = 50;
mpc.bus_name = { 'it''s; % [one'; "two" };
mpc.areas = [1, 4];

mpc.bus = [
  10  3  0   0   0  0    1  1  5  110 1  1.05 0.95;  % the reference, at 5 degrees
  20, 1, 60, 20, 2, 10,  1, 1, 0, 110, 1, 1.05, 0.95
  30  2  40  10  0  0 ...  the row goes on
     1  1  0  110 1  1.05 0.95;
  40  1  30  12  0  -3   1  1  0  110 1  1.05 0.95; 50 4 900 0 0 0 1 1 0 110 1 1.05 0.95;
];
mpc.gen = [
  10  0 0  80 -80  1 50 1  200   0;
  30  0 0  60 -60  1 50 0  500   0;   % out of service
  30  0 0  60 -60  1 50 1  70   10;
  50  0 0  60 -60  1 50 1  900   0;   % at the isolated bus
  40  0 0  5  -5   1 50 1  0   -10;   % a dispatchable load
];
mpc.gencost = [
  2 0 0 3  0.05 10 5   0;
  2 0 0 3  0 1 0       0;
  1 0 0 2  10 150  70 1650;
  2 0 0 3  0 1 0       0;
  2 0 0 2  35 0  0     0;
];
mpc.branch = [
  10 20  0.01 0.08 0.04  90 0 0  0    0   1  -30 30;
  20 10  0.02 0.10 0.02  0  0 0  0    0   1  0   0;    % parallel, reversed, no rating
  10 30  0.01 0.09 0.03  60 0 0  0.97 -4  1  -360 360; % a phase shifter
  40 30  0.02 0.12 0     60 0 0  1.03 2   1  -20 25;
  20 40  0.03 0.15 0.05  60 0 0  0    0   1  -30 30;
  20 30  0    0    0     60 0 0  0    0   0  -30 30;   % out of service
  50 30  0.01 0.1  0     60 0 0  0    0   1  -30 30;   % to the isolated bus
];
mpc.dcline = [ 10 20 0 ];
