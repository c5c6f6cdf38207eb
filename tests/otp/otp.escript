#!/usr/bin/env escript
%% SPDX-License-Identifier: MIT
%%
%% otp.escript - runs schedules of crashes through Erlang/OTP's own supervisor, and says who was started,
%% stopped and gave up when. tests/otp_test.py has the schedules; tests/otp_program.c is the other side.
%%
%% The supervisor is stdlib's module as installed, recompiled from the code in its beam file with one call
%% replaced: its reading of the clock, in whole seconds, so that a schedule can set the time. With --real nothing
%% is replaced, and schedules must not set it.
-mode(compile).

-export([main/1, init/1, start_kid/2, kid/2]).

main(Args) ->
    logger:set_primary_config(level, none),
    case Args of
        ["--real"] -> ok;
        [] -> set_clock()
    end,
    ets:new(kids, [named_table, public]),
    lists:foreach(fun run/1, schedules()).

set_clock() ->
    {ok, {supervisor, [{abstract_code, {_, Forms}}]}} =
        beam_lib:chunks(code:which(supervisor), [abstract_code]),
    put(replaced, 0),
    New = [replace(F) || F <- Forms],
    1 = get(replaced), % else this release reads the clock in another way
    {ok, supervisor, Binary} = compile:forms(New, []),
    code:unstick_mod(supervisor),
    {module, supervisor} = code:load_binary(supervisor, "supervisor", Binary).

replace({call, L, {remote, _, {atom, _, erlang}, {atom, _, monotonic_time}}, [{integer, _, 1}]}) ->
    put(replaced, get(replaced) + 1),
    Ms = {call, L, {remote, L, {atom, L, persistent_term}, {atom, L, get}}, [{atom, L, ms}]},
    {op, L, 'div', Ms, {integer, L, 1000}};
replace(T) when is_tuple(T) -> list_to_tuple(replace(tuple_to_list(T)));
replace([H | T]) -> [replace(H) | replace(T)];
replace(X) -> X.

schedules() ->
    case io:get_line("") of
        eof -> [];
        Line -> [string:lexemes(string:trim(Line), " ") | schedules()]
    end.

%% ------------------------------------------------------------------------------ one schedule

run([Strategy, Restarts, Seconds, Kids | Events]) ->
    process_flag(trap_exit, true),
    ets:delete_all_objects(kids),
    persistent_term:put(ms, 1000000),
    Flags = #{strategy => strategy(Strategy), intensity => list_to_integer(Restarts),
              period => list_to_integer(Seconds)},
    put(dynamic, Strategy =:= "dynamic"),
    Specs = [spec(K) || K <- string:lexemes(Kids, ",")],
    put(log, []),
    Start = case get(dynamic) of
                true -> [(hd(Specs))#{start => {?MODULE, start_kid, [self()]}}];
                false -> [prepare(S) || S <- Specs]
            end,
    {ok, Sup} = supervisor:start_link(?MODULE, {Flags, Start}),
    [{ok, _} = supervisor:start_child(Sup, [maps:get(id, S)]) || get(dynamic), S <- Specs],
    Groups = [collect() | steps(Sup, Events)],
    Up = case is_process_alive(Sup) of
             true -> ["up" | lists:sort([atom_to_list(K) || [K, P] <- ets:match(kids, {{pid, '$1'}, '$2'}),
                                                            is_process_alive(P)])];
             false -> ["gave-up"]
         end,
    io:format("~s~n", [lists:join(" | ", [lists:join(" ", G) || G <- Groups] ++ [lists:join(" ", Up)])]),
    exit(Sup, shutdown),
    gone(Sup),
    collect().

strategy("dynamic") -> simple_one_for_one;
strategy(S) -> list_to_atom(S).

spec(Kid) ->
    [Name, Type] = string:lexemes(Kid, ":"),
    #{id => list_to_atom(Name), restart => list_to_atom(Type), shutdown => 5000}.

prepare(Spec) -> Spec#{start => {?MODULE, start_kid, [self(), maps:get(id, Spec)]}}.

%% The supervisor's callback.
init(X) -> {ok, X}.

%% Until the supervisor has died, or its time for this event has come.
steps(_, []) -> [];
steps(Sup, [Event | Rest]) ->
    step(Sup, string:lexemes(Event, "=")),
    settle(Sup),
    Log = collect(),
    case is_process_alive(Sup) of
        true -> [Log | steps(Sup, Rest)];
        false -> [Log]
    end.

step(_, ["at", Ms]) -> persistent_term:put(ms, 1000000 + list_to_integer(Ms));
step(_, ["fail", What]) ->
    [Name, N] = string:lexemes(What, ":"),
    ets:insert(kids, {{fails, list_to_atom(Name)}, list_to_integer(N)});
step(Sup, ["add", What]) ->
    Spec = spec(What),
    case get(dynamic) of
        true -> supervisor:start_child(Sup, [maps:get(id, Spec)]);
        false -> supervisor:start_child(Sup, prepare(Spec))
    end;
step(Sup, ["remove", Name]) ->
    Id = list_to_atom(Name),
    case get(dynamic) of
        true -> supervisor:terminate_child(Sup, pid(Id));
        false -> supervisor:terminate_child(Sup, Id), supervisor:delete_child(Sup, Id)
    end;
step(Sup, [How, Names]) -> % crash, end: all die before the supervisor learns of the first
    sys:suspend(Sup),
    [stop(pid(list_to_atom(N)), How) || N <- string:lexemes(Names, "+")],
    sys:resume(Sup).

pid(Name) -> ets:lookup_element(kids, {pid, Name}, 2).

stop(Pid, How) ->
    Pid ! list_to_atom(How),
    gone(Pid).

gone(Pid) ->
    Monitor = monitor(process, Pid),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

%% Nothing is left to be done: asked twice in a row, since a retry is a message to itself.
settle(Sup) ->
    case {look(Sup), look(Sup)} of
        {idle, idle} -> ok;
        {dead, _} -> ok;
        {_, dead} -> gone(Sup);
        _ -> settle(Sup)
    end.

look(Sup) ->
    try supervisor:which_children(Sup) of
        Kids ->
            case [x || {_, P, _, _} <- Kids, P =:= restarting orelse (is_pid(P) andalso not is_process_alive(P))] of
                [] -> idle;
                _ -> busy
            end
    catch
        exit:_ -> dead
    end.

collect() ->
    receive {log, Word} -> [Word | collect()] after 0 -> [] end.

%% ------------------------------------------------------------------------------ the children

start_kid(Driver, Name) -> proc_lib:start_link(?MODULE, kid, [Driver, Name]).

kid(Driver, Name) ->
    process_flag(trap_exit, true),
    case ets:lookup(kids, {fails, Name}) of
        [{_, N}] when N > 0 ->
            ets:insert(kids, {{fails, Name}, N - 1}),
            Driver ! {log, "!" ++ atom_to_list(Name)},
            proc_lib:init_ack({error, planned});
        _ ->
            ets:insert(kids, {{pid, Name}, self()}),
            Driver ! {log, "+" ++ atom_to_list(Name)},
            proc_lib:init_ack({ok, self()}),
            receive
                crash -> exit(planned);
                'end' -> exit(normal);
                {'EXIT', _, _} -> Driver ! {log, "-" ++ atom_to_list(Name)}
            end
    end.
